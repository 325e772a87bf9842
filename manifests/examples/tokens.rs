//! Measures codec `deflate-tokens` on gzip files; see `benches/tokens.sh`:
//! `tokens [--levels N,N…] [--rounds N] [--keep FOLDER] [--base FORMER] FILE…`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a measurement for people"
)]

use std::path::PathBuf;

use bundle_format::limits::ZSTD_WINDOW_LOG;
use bundle_format::tokens::{NotCodable, TokenDecoder, TokenEncoder};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

/// So that all of a base and of a layer lie in it.
const DELTA_WINDOW_LOG: u32 = 29;
const MB: f64 = 1e6;

struct Options {
    levels: Vec<i32>,
    /// Times that each decoding is done; the best counts.
    rounds: u32,
    /// Where what was compressed is kept for a later run.
    keep: Option<PathBuf>,
    base: Option<Vec<u8>>,
}

fn main() {
    let mut options = Options { levels: vec![3, 6, 22], rounds: 3, keep: None, base: None };
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap();
        match argument.as_str() {
            "--levels" => options.levels = value().split(',').map(|level| level.parse().unwrap()).collect(),
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--keep" => options.keep = Some(value().into()),
            "--base" => options.base = Some(encode(&std::fs::read(value()).unwrap()).unwrap()),
            _ => files.push(argument),
        }
    }
    let columns =
        |what: &str| options.levels.iter().map(|level| format!("{what} {level} | ")).collect::<Vec<_>>().concat();
    println!(
        "| layer | gzip MB | tokens MB | {}encode MB/s | tokens to gzip MB/s | {}",
        columns("zstd"),
        columns("MB/s from zstd")
    );
    println!("|---|---|---|---|---|{}", "---|".repeat(2 * options.levels.len()));
    let mut all = vec![0; 1 + options.levels.len()];
    for file in &files {
        let sizes = measure(file, &options);
        all.iter_mut().zip(sizes).for_each(|(sum, size)| *sum += size);
    }
    println!("| all | {:.2} | | {}", all[0] as f64 / MB, shares(&all));
}

/// Sizes of compressed tokens, and their share of the gzip bytes, which come first.
fn shares(sizes: &[usize]) -> String {
    let share = |size: &usize| format!("{:.2} = {:.4} | ", *size as f64 / MB, *size as f64 / sizes[0] as f64);
    sizes[1..].iter().map(share).collect::<Vec<_>>().concat()
}

fn measure(file: &str, options: &Options) -> Vec<usize> {
    let gzip = std::fs::read(file).unwrap();
    let name = file.rsplit('/').next().unwrap();
    let from = cpu_seconds();
    let tokens = match encode(&gzip) {
        Ok(tokens) => tokens,
        Err(why) => {
            println!("| {file} | {why}");
            return Vec::new();
        }
    };
    let encode = speed(gzip.len(), from);
    let packed: Vec<Vec<u8>> = options.levels.iter().map(|level| packed(name, &tokens, *level, options)).collect();
    let mut best = vec![0.0_f64; 1 + packed.len()];
    let mut back = Vec::with_capacity(gzip.len());
    for _ in 0..options.rounds {
        let from = cpu_seconds();
        back.clear();
        let mut decoder = TokenDecoder::new(gzip.len() as u64);
        for part in tokens.chunks(256 << 10) {
            decoder.push(part, &mut back).unwrap();
        }
        decoder.finish(&mut back).unwrap();
        best[0] = best[0].max(speed(gzip.len(), from));
        assert!(back == gzip, "{file}: comes back differently");
        for (packed, best) in packed.iter().zip(&mut best[1..]) {
            let from = cpu_seconds();
            back.clear();
            from_zstd(packed, options.base.as_deref(), gzip.len(), &mut back);
            *best = best.max(speed(gzip.len(), from));
            assert!(back == gzip, "{file}: comes back differently");
        }
    }
    let sizes: Vec<usize> = std::iter::once(gzip.len()).chain(packed.iter().map(Vec::len)).collect();
    println!(
        "| {name} | {:.2} | {:.2} | {}{encode:.0} | {}",
        gzip.len() as f64 / MB,
        tokens.len() as f64 / MB,
        shares(&sizes),
        best.iter().map(|best| format!("{best:.0} | ")).collect::<Vec<_>>().concat()
    );
    sizes
}

/// As a site does it, but for the digests.
fn from_zstd(packed: &[u8], base: Option<&[u8]>, size: usize, back: &mut Vec<u8>) {
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(DELTA_WINDOW_LOG)).unwrap();
    if let Some(base) = base {
        context.ref_prefix(base).unwrap();
    }
    let mut decoder = TokenDecoder::new(size as u64);
    let mut part = vec![0_u8; 256 << 10];
    let mut input = InBuffer::around(packed);
    loop {
        let mut output = OutBuffer::around(part.as_mut_slice());
        let hint = context.decompress_stream(&mut output, &mut input).unwrap();
        decoder.push(output.as_slice(), back).unwrap();
        if hint == 0 {
            break;
        }
    }
    decoder.finish(back).unwrap();
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

fn packed(name: &str, tokens: &[u8], level: i32, options: &Options) -> Vec<u8> {
    let kept = options.keep.as_ref().map(|folder| folder.join(format!("{name}.{level}")));
    if let Some(packed) = kept.as_ref().and_then(|file| std::fs::read(file).ok()) {
        return packed;
    }
    let packed = compress(tokens, level, options.base.as_deref());
    if let Some(file) = kept {
        std::fs::write(file, &packed).unwrap();
    }
    packed
}

/// As packs are written (`pack/write.rs`), each layer alone.
fn compress(bytes: &[u8], level: i32, base: Option<&[u8]>) -> Vec<u8> {
    let high = level >= 16;
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level)).unwrap();
    context.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG - u32::from(!high))).unwrap();
    context.set_parameter(CParameter::EnableLongDistanceMatching(true)).unwrap();
    if !high {
        context.set_parameter(CParameter::LdmMinMatch(24)).unwrap();
        context.set_parameter(CParameter::LdmHashRateLog(4)).unwrap();
        context.set_parameter(CParameter::LdmHashLog(23)).unwrap();
    }
    if let Some(base) = base {
        context.set_parameter(CParameter::WindowLog(DELTA_WINDOW_LOG)).unwrap();
        context.ref_prefix(base).unwrap();
    }
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(bytes.len()));
    context.compress2(&mut packed, bytes).unwrap();
    packed
}
