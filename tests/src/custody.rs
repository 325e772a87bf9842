//! TEST sets and chains of custody, sound or with one damage.

use bundle_format::custody::{
    Direction, FORMAT, Medium, People, Person, Record, RecordedFile, System, UnverifiedCustody,
};
use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use bundle_format::set::{self, SetFile, SetList};
use bundle_format::signature::Signature;
use bundle_format::timestamp::Timestamp;
use signing_keys::Signer;

use crate::keys;

/// Format of a record's envelope.
pub const ENVELOPE: &str = "lockgate-custody-envelope/1";

/// The list of a set of three small files, the last of them parity. `edit` may change a content.
pub fn set(marking: &str, contents: &[&[u8]; 3]) -> SetList {
    let file = |(content, number): (&&[u8], u16)| SetFile {
        name: format!("test-product_1.0_v{number}.lgv"),
        number,
        size: content.len() as u64,
        sha384: Sha384::of(content),
    };
    SetList {
        format: set::FORMAT.into(),
        set: "00112233445566778899aabbccddeeff".into(),
        product: "test-product".into(),
        release: "1.0".into(),
        sequence: 7,
        marking: Marking::parse(marking).unwrap(),
        manifest_sha384: Sha384::of(b"TEST manifest"),
        archive_size: 100,
        data_volumes: 2,
        parity_volumes: 1,
        files: contents.iter().zip(1..).map(file).collect(),
    }
}

/// A consistent record about a set.
pub fn record(list: &SetList, number: u64, previous: Option<Sha384>) -> Record {
    let system = |name: &str, marking: &str| System { system: name.into(), marking: Marking::parse(marking).unwrap() };
    let person = |name: &str, id: &str| Person { name: name.into(), id: id.into(), role: "DTA".into(), holder: None };
    let recorded = |file: &SetFile| RecordedFile { name: file.name.clone(), size: file.size, sha384: file.sha384 };
    Record {
        format: FORMAT.into(),
        number,
        previous,
        set: list.set.clone(),
        manifest_sha384: list.manifest_sha384,
        product: list.product.clone(),
        release: list.release.clone(),
        sequence: list.sequence,
        marking: list.marking.clone(),
        log_number: format!("TEST-{number}"),
        at: Timestamp::parse("2026-11-01T10:00:00Z").unwrap(),
        direction: Direction::LowToHigh,
        from: system("build", "SECRET"),
        to: system("enclave", "TOP SECRET"),
        data_owner: "TEST office".into(),
        justification: "TEST ticket".into(),
        appointment: "TEST letter".into(),
        media: vec![Medium { kind: "dvd".into(), label: "T1".into(), volumes: vec![1, 2, 3], finalised: true }],
        files: list.files.iter().map(recorded).collect(),
        scans: Vec::new(),
        people: People { giver: person("Tina", "1"), receiver: person("Theo", "2") },
        disposition: None,
    }
}

/// A consistent chain; each entry names who signs that record.
pub fn chain(list: &SetList, signers: &[&[&Signer]]) -> UnverifiedCustody {
    let mut chain = UnverifiedCustody::default();
    for names in signers {
        let (number, previous) = chain.next_link().unwrap();
        chain.push(record(list, number, previous)).unwrap();
        for signer in *names {
            signer.sign_custody(&mut chain).unwrap();
        }
    }
    chain
}

/// One line around any record, consistent or not, soundly signed.
pub fn line(record: &Record, signers: &[&Signer]) -> Vec<u8> {
    let payload = bundle_format::json::to_bytes("record", record).unwrap();
    let comment =
        format!("lockgate custody set={} record={} sha384={}", record.set, record.number, Sha384::of(&payload));
    let signatures: Vec<Signature> =
        signers.iter().flat_map(|signer| signer.sign(&payload, &comment).unwrap()).collect();
    keys::envelope_file(ENVELOPE, std::str::from_utf8(&payload).unwrap(), signatures)
}
