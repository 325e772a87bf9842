//! Measures codec `deflate-tokens` on gzip files: `tokens [--quick] FILE…`; see `benches/tokens.sh`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, reason = "a measurement for people")]

use bundle_format::tokens::{TokenDecoder, TokenEncoder};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter};

/// As the packs are written: one long window.
const WINDOW_LOG: u32 = 26;
const MB: f64 = 1e6;

fn main() {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    let mut levels = vec![3, 9, 19];
    let mut dump = false;
    files.retain(|file| match file.as_str() {
        "--quick" => {
            levels = vec![3, 9];
            false
        }
        "--dump" => {
            dump = true;
            false
        }
        _ => true,
    });
    println!(
        "| layer | gzip MB | tokens MB | {} | encode MB/s | tokens to gzip MB/s | with zstd MB/s |",
        levels.iter().map(|level| format!("zstd {level} MB")).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|---|---|{}---|---|---|", "---|".repeat(levels.len()));
    for file in files {
        let gzip = std::fs::read(&file).unwrap();
        let from = cpu_seconds();
        let mut tokens = Vec::new();
        let mut encoder = TokenEncoder::new();
        let coded = gzip.chunks(1 << 20).try_for_each(|part| encoder.push(part, &mut tokens));
        if let Err(why) = coded.and_then(|()| encoder.finish(&mut tokens)) {
            println!("| {file} | {why}");
            continue;
        }
        let encode = speed(gzip.len(), from);
        if dump {
            std::fs::write(format!("{file}.tok"), &tokens).unwrap();
        }
        let mut sizes = Vec::new();
        let mut packed = Vec::new();
        for level in &levels {
            packed = compress(&tokens, *level);
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
            context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG + 1)).unwrap();
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

fn compress(bytes: &[u8], level: i32) -> Vec<u8> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level)).unwrap();
    context.set_parameter(CParameter::WindowLog(WINDOW_LOG)).unwrap();
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(bytes.len()));
    context.compress2(&mut packed, bytes).unwrap();
    packed
}
