//! Real compressors: those that tests/setup/packages.sh installs run here, the others wrote `tests/vectors-gzip/`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{content, encode, looked_into, round_trip};

fn run(program: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|why| panic!("{}: {why}: install it by tests/setup/packages.sh", program[0]));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program:?}: {}", output.status);
    output.stdout
}

/// The same, of gzip that a compressor wrote: its content must be shown, all of it.
#[track_caller]
fn shown_round_trip(gzip: &[u8], what: &str) {
    let tokens = round_trip(gzip, what);
    assert!(looked_into(&tokens, gzip, what), "{what}: not shown");
}

/// Each file of `tests/vectors-gzip/`: two dozen compressors, and streams made by hand.
#[test]
fn vectors_of_compressors_that_this_machine_may_lack() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors-gzip");
    let index = std::fs::read_to_string(folder.join("index.tsv")).unwrap();
    let vectors: Vec<Vec<&str>> = index.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert!(vectors.len() > 90, "{} vectors", vectors.len());
    let (mut all, mut odd) = (Vec::new(), Vec::new());
    for vector in &vectors {
        let name = vector[0];
        let gzip = std::fs::read(folder.join(name)).unwrap();
        let tokens = round_trip(&gzip, name);
        if !looked_into(&tokens, &gzip, name) {
            odd.push(name);
        }
        // What another writer is held against.
        let found = [tokens.len().to_string(), bundle_format::digest::Sha256::of(&tokens).hex()];
        assert_eq!(vector[7..], found, "{name}");
        all.extend(tokens);
    }
    assert_eq!(odd, ODD);
    // Deltas need the same token bytes from every version of this program (spec 6.1): frozen.
    assert_eq!(bundle_format::digest::Sha384::of(&all).to_string(), ALL);
}

/// The methods by which the heads of the dynamic blocks are foretold, 0 where one is written out.
fn methods(tokens: &[u8]) -> Vec<u8> {
    let number = |at: &mut usize| {
        let (mut value, mut place) = (0, 0);
        loop {
            value |= usize::from(tokens[*at] & 0x7F) << place;
            place += 7;
            *at += 1;
            if tokens[*at - 1] < 128 {
                return value;
            }
        }
    };
    let mut methods = Vec::new();
    let mut next = 1;
    while next < tokens.len() {
        let sizes: Vec<usize> = (0..7).map(|_| number(&mut next)).collect();
        let mut at = next;
        let end = at + sizes[0];
        next += sizes.iter().sum::<usize>();
        while at < end {
            let record = tokens[at];
            at += 1;
            match record {
                0 => {}
                2 => at += 9,
                1 => {
                    let size = number(&mut at);
                    at += size;
                }
                3 | 4 | 12 => drop(number(&mut at)),
                _ => {
                    number(&mut at);
                    match record & 0x0C {
                        0 => at += 1,
                        4 => {}
                        12 => {
                            methods.push(tokens[at]);
                            at += 1;
                        }
                        _ => {
                            methods.push(0);
                            let mut left = usize::from(tokens[at]) + 257 + usize::from(tokens[at + 1]) + 1;
                            at += 3 + usize::from(tokens[at + 2]);
                            while left > 0 {
                                left -= match tokens[at] {
                                    0..=15 => 1,
                                    write @ 16..=19 => usize::from(write) - 13,
                                    write => usize::from(write) - 17,
                                };
                                at += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    methods
}

/// What is foretold for one compressor must stay so: else layers grow and nobody notices.
#[test]
fn heads_are_foretold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors-gzip");
    let of = |name: &str| methods(&round_trip(&std::fs::read(folder.join(name)).unwrap(), name));
    for (name, expected) in FORETOLD {
        let found = of(&format!("{name}.gz"));
        assert!(!found.is_empty() && found.iter().all(|method| expected.contains(method)), "{name}: {found:?}");
    }
    assert!(of("igzip-1.gz").iter().all(|method| *method == 0), "igzip's are written out");
}

/// By vector, the methods that its heads are foretold by (docs/spec/tokens.md, 19.5).
const FORETOLD: [(&str, &[u8]); 14] = [
    ("go-default", &[1]),
    ("go-9", &[1]),
    ("zlib-6", &[2]),
    ("gzip-6", &[2]),
    ("gzip-9", &[2]),
    ("busybox", &[2]),
    ("pigz-6", &[2]),
    ("java-default", &[2]),
    ("pgzip-skopeo", &[3]),
    ("klauspost-1", &[5]),
    ("klauspost-5", &[5]),
    ("klauspost-9", &[1]),
    ("pgzip-1MiB-blocks", &[2, 5]),
    ("libdeflate-6", &[5]),
];

#[test]
fn compressors_of_this_machine() {
    let input = content(300_000, 5);
    let mut members = Vec::new();
    for program in [
        &["gzip", "-1"][..],
        &["gzip", "-9n"],
        &["busybox", "gzip"],
        &["pigz", "-1"],
        &["pigz", "-6"],
        &["pigz", "-9", "-b", "128"],
        &["pigz", "-i", "-b", "128"],
        &["pigz", "-0"],
        &["libdeflate-gzip", "-1"],
        &["libdeflate-gzip", "-6"],
        &["libdeflate-gzip", "-12"],
    ] {
        let gzip = run(program, &input);
        shown_round_trip(&gzip, &format!("{program:?}"));
        members.extend(gzip);
    }
    shown_round_trip(&members, "all of them as members of one file");
    // These two want files, or are slow.
    let small = &input[..30_000];
    shown_round_trip(&run(&["pigz", "-11"], small), "pigz -11");
    let folder = std::env::temp_dir().join(format!("lockgate-tokens-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("content");
    std::fs::write(&file, small).unwrap();
    run(&["zopfli", "--i5", file.to_str().unwrap()], &[]);
    let gzip = std::fs::read(folder.join("content.gz")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    shown_round_trip(&gzip, "zopfli");
}

/// Vectors whose content is not shown: headers with a checksum of their own, bytes behind the last member.
const ODD: [&str; 4] = ["header-crc.gz", "header-everything.gz", "members-mixed-headers.gz", "padding-zeros.gz"];

const ALL: &str = "42d96ef3222e0231a3c5b400392e986ad36603c12750bcf694921fd5930e5b7885eeba1e52b4ee44a20e215cbc1f8555";

/// zlib itself, by Python: every level, strategy and memory level, and every kind of flush.
#[test]
fn zlib_with_all_its_settings() {
    const PROGRAM: &str = r"
import sys, zlib
data = sys.stdin.buffer.read()
out = sys.stdout.buffer
for level in range(10):
    for strategy in range(5):
        for memory in (1, 8, 9):
            c = zlib.compressobj(level, zlib.DEFLATED, 31, memory, strategy)
            part = c.compress(data) + c.flush()
            out.write(len(part).to_bytes(4, 'little') + part)
for flush in (zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK):
    c = zlib.compressobj(6, zlib.DEFLATED, 31)
    part = b''.join(c.compress(data[at:at + 5000]) + c.flush(flush) for at in range(0, len(data), 5000)) + c.flush()
    out.write(len(part).to_bytes(4, 'little') + part)
c = zlib.compressobj(6, zlib.DEFLATED, 31)
part = c.compress(b'') + c.flush()
out.write(len(part).to_bytes(4, 'little') + part)
";
    let all = run(&["python3", "-c", PROGRAM], &content(60_000, 6));
    let mut rest = &all[..];
    let mut seen = 0;
    while let Some((size, behind)) = rest.split_first_chunk::<4>() {
        let (gzip, behind) = behind.split_at(u32::from_le_bytes(*size) as usize);
        shown_round_trip(gzip, &format!("zlib, number {seen}"));
        rest = behind;
        seen += 1;
    }
    assert_eq!(seen, 155);
}

/// Content in between must not change the tokens behind it: that is what updates live on.
#[test]
fn an_insertion_near_the_start_leaves_the_rest_of_the_tokens_alike() {
    let old = content(2_000_000, 7);
    let mut new = old.clone();
    let more = content(1000, 8);
    new.splice(10_000..10_000, more.iter().copied());
    for program in [&["gzip", "-6n"][..], &["pigz", "-n"]] {
        let (old, new) = (run(program, &old), run(program, &new));
        let (base, tokens) = (encode(&old, 1 << 20).unwrap(), encode(&new, 1 << 20).unwrap());
        let mut context = zstd::zstd_safe::CCtx::create();
        context.set_parameter(zstd::zstd_safe::CParameter::CompressionLevel(9)).unwrap();
        context.set_parameter(zstd::zstd_safe::CParameter::WindowLog(24)).unwrap();
        context.ref_prefix(&base).unwrap();
        let mut delta = Vec::with_capacity(zstd::zstd_safe::compress_bound(tokens.len()));
        context.compress2(&mut delta, &tokens).unwrap();
        assert!(delta.len() * 40 < new.len(), "{program:?}: {} bytes for a change of {}", delta.len(), more.len());
    }
}
