//! Measures codec `deflate-tokens` on gzip files: `tokens [--quick] [--base FORMER] FILE…`; see `benches/tokens.sh`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, reason = "a measurement for people")]

use bundle_format::tokens::{NotCodable, TokenDecoder, TokenEncoder};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter};

/// As the packs are written: one long window.
const WINDOW_LOG: u32 = 26;
/// So that all of a base and of a layer lie in it.
const DELTA_WINDOW_LOG: u32 = 29;
const MB: f64 = 1e6;

fn main() {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    let mut levels = vec![3, 9, 19];
    files.retain(|file| match file.as_str() {
        "--quick" => {
            levels = vec![3, 9];
            false
        }
        _ => true,
    });
    let mut base = None;
    if let Some(at) = files.iter().position(|file| file == "--base") {
        base = files.drain(at..at + 2).nth(1).map(|file| encode(&std::fs::read(file).unwrap()).unwrap());
    }
    println!(
        "| layer | gzip MB | tokens MB | {} | encode MB/s | tokens to gzip MB/s | with zstd MB/s |",
        levels.iter().map(|level| format!("zstd {level} MB")).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|---|---|{}---|---|---|", "---|".repeat(levels.len()));
    for file in files {
        let gzip = std::fs::read(&file).unwrap();
        let from = cpu_seconds();
        let tokens = match encode(&gzip) {
            Ok(tokens) => tokens,
            Err(why) => {
                println!("| {file} | {why}");
                continue;
            }
        };
        let encode = speed(gzip.len(), from);
        let mut sizes = Vec::new();
        let mut packed = Vec::new();
        for level in &levels {
            packed = compress(&tokens, *level, base.as_deref());
            sizes.push(format!("{:.2} = {:.3}", packed.len() as f64 / MB, packed.len() as f64 / gzip.len() as f64));
        }
        let mut best = (0.0_f64, 0.0_f64);
        for _ in 0..3 {
            let from = cpu_seconds();
            let mut back = Vec::with_capacity(gzip.len());
            let mut decoder = TokenDecoder::new(gzip.len() as u64);
            for part in tokens.chunks(1 << 20) {
                decoder.push(part, &mut back).unwrap();
            }
            decoder.finish(&mut back).unwrap();
            best.0 = best.0.max(speed(gzip.len(), from));
            assert!(back == gzip, "{file}: comes back differently");
            let from = cpu_seconds();
            back.clear();
            let mut context = DCtx::create();
            context.set_parameter(DParameter::WindowLogMax(DELTA_WINDOW_LOG)).unwrap();
            if let Some(base) = &base {
                context.ref_prefix(base).unwrap();
            }
            let mut decoder = TokenDecoder::new(gzip.len() as u64);
            let mut part = vec![0_u8; 256 << 10];
            let mut input = zstd::zstd_safe::InBuffer::around(&packed);
            loop {
                let mut output = zstd::zstd_safe::OutBuffer::around(part.as_mut_slice());
                let hint = context.decompress_stream(&mut output, &mut input).unwrap();
                decoder.push(output.as_slice(), &mut back).unwrap();
                if hint == 0 {
                    break;
                }
            }
            decoder.finish(&mut back).unwrap();
            best.1 = best.1.max(speed(gzip.len(), from));
        }
        println!(
            "| {} | {:.2} | {:.2} | {} | {encode:.0} | {:.0} | {:.0} |",
            file.rsplit('/').next().unwrap(),
            gzip.len() as f64 / MB,
            tokens.len() as f64 / MB,
            sizes.join(" | "),
            best.0,
            best.1
        );
    }
}

fn speed(bytes: usize, from: f64) -> f64 {
    bytes as f64 / MB / (cpu_seconds() - from)
}

/// Seconds that this thread has had a core, so that other programs on the machine do not count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn encode(gzip: &[u8]) -> Result<Vec<u8>, NotCodable> {
    let mut tokens = Vec::new();
    let mut encoder = TokenEncoder::new();
    for part in gzip.chunks(1 << 20) {
        encoder.push(part, &mut tokens)?;
    }
    encoder.finish(&mut tokens)?;
    Ok(tokens)
}

fn compress(bytes: &[u8], level: i32, base: Option<&[u8]>) -> Vec<u8> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level)).unwrap();
    context.set_parameter(CParameter::WindowLog(WINDOW_LOG)).unwrap();
    if let Some(base) = base {
        context.set_parameter(CParameter::WindowLog(DELTA_WINDOW_LOG)).unwrap();
        context.set_parameter(CParameter::EnableLongDistanceMatching(true)).unwrap();
        context.ref_prefix(base).unwrap();
    }
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(bytes.len()));
    context.compress2(&mut packed, bytes).unwrap();
    packed
}
