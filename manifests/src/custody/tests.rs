use super::*;
use crate::marking::Marking;
use crate::set::SetFile;
use crate::timestamp::Timestamp;

fn person(name: &str, id: &str) -> Person {
    Person { name: name.into(), id: id.into(), role: "DTA".into(), holder: None }
}

fn record(number: u64, previous: Option<Sha384>) -> Record {
    let system = |name: &str, marking: &str| System { system: name.into(), marking: Marking::parse(marking).unwrap() };
    Record {
        format: FORMAT.into(),
        number,
        previous,
        set: "00112233445566778899aabbccddeeff".into(),
        manifest_sha384: Sha384::of(b"m"),
        product: "test".into(),
        release: "1".into(),
        sequence: 1,
        marking: Marking::parse("SECRET").unwrap(),
        log_number: "2026-0001".into(),
        at: Timestamp::parse("2026-11-01T10:00:00Z").unwrap(),
        direction: Direction::LowToHigh,
        from: system("build", "SECRET"),
        to: system("enclave", "TOP SECRET"),
        data_owner: "office".into(),
        justification: "ticket 7".into(),
        appointment: "letter 3".into(),
        media: vec![Medium { kind: "dvd".into(), label: "A1".into(), volumes: vec![1], finalised: true }],
        files: vec![RecordedFile { name: "v1.lgv".into(), size: 5, sha384: Sha384::of(b"v") }],
        scans: Vec::new(),
        people: People { giver: person("A", "1"), receiver: person("B", "2") },
        disposition: None,
    }
}

fn chain(records: usize) -> UnverifiedCustody {
    let mut chain = UnverifiedCustody::default();
    for _ in 0..records {
        let (number, previous) = chain.next_link().unwrap();
        chain.push(record(number, previous)).unwrap();
    }
    chain
}

fn list() -> SetList {
    SetList {
        format: crate::set::FORMAT.into(),
        set: "00112233445566778899aabbccddeeff".into(),
        product: "test".into(),
        release: "1".into(),
        sequence: 1,
        marking: Marking::parse("SECRET").unwrap(),
        manifest_sha384: Sha384::of(b"m"),
        archive_size: 5,
        data_volumes: 1,
        parity_volumes: 0,
        files: vec![SetFile { name: "v1.lgv".into(), number: 1, size: 5, sha384: Sha384::of(b"v") }],
    }
}

#[test]
fn round_trip_and_links() {
    let chain = chain(3);
    let bytes = chain.to_bytes().unwrap();
    let again = UnverifiedCustody::parse(&bytes).unwrap();
    assert_eq!(again, chain);
    again.check().unwrap();
    let first = bytes.split_inclusive(|b| *b == b'\n').next().unwrap();
    assert_eq!(again.claimed().nth(1).unwrap().previous, Some(Sha384::of(first)));
}

#[test]
fn removed_reordered_and_foreign_records() {
    let good = chain(3);
    let lines = |order: &[usize]| {
        let records = order.iter().map(|at| good.records[*at].clone()).collect();
        UnverifiedCustody { records }.check().unwrap_err()
    };
    for order in [&[1, 2][..], &[0, 2], &[1, 0, 2], &[0, 2, 1], &[0, 1, 1]] {
        assert!(matches!(lines(order).kind(), ErrorKind::CustodyChain { .. }), "{order:?}");
    }
    for change in [
        (|r: &mut Record| r.set = "ff".repeat(16)) as fn(&mut Record),
        |r| r.manifest_sha384 = Sha384::of(b"n"),
        |r| r.sequence = 2,
        |r| r.marking = Marking::UNCLASSIFIED,
        |r| r.at = Timestamp::parse("2026-10-31T10:00:00Z").unwrap(),
        |r| r.previous = None,
        |r| r.number = 7,
    ] {
        let mut chain = chain(1);
        let (number, previous) = chain.next_link().unwrap();
        let mut next = record(number, previous);
        change(&mut next);
        assert!(matches!(chain.push(next).unwrap_err().kind(), ErrorKind::CustodyChain { .. }));
        assert_eq!(chain.claimed().len(), 1, "a refused record is not kept");
    }
    let mut chain = chain(1);
    let (number, previous) = chain.next_link().unwrap();
    let mut next = record(number, previous);
    next.files[0].sha384 = Sha384::of(b"other");
    assert!(matches!(chain.push(next).unwrap_err().kind(), ErrorKind::FileDiffers { .. }));
}

#[test]
fn what_a_record_may_not_say() {
    type IsKind = fn(&ErrorKind) -> bool;
    type Case = (&'static str, Box<dyn Fn(&mut Record)>, IsKind, u8);
    let inconsistent: IsKind = |k| matches!(k, ErrorKind::Inconsistent { .. });
    let bad_value: IsKind = |k| matches!(k, ErrorKind::BadValue { .. });
    let marking: IsKind = |k| matches!(k, ErrorKind::CustodyMarking { .. });
    let not_clean: IsKind = |k| matches!(k, ErrorKind::ScanNotClean { .. });
    let same: IsKind = |k| matches!(k, ErrorKind::SamePerson { .. });
    let scan = |result| Scan {
        scanner: "scan".into(),
        version: "1".into(),
        signatures: "2".into(),
        at: Timestamp::parse("2026-11-01T09:00:00Z").unwrap(),
        result,
        report_sha384: Sha384::of(b"r"),
    };
    let low = |r: &mut Record| {
        r.to.marking = Marking::UNCLASSIFIED;
        r.direction = Direction::HighToLow;
    };
    let from_low = |r: &mut Record| r.from.marking = Marking::UNCLASSIFIED;
    let cases: [Case; 21] = [
        ("to a lower system", Box::new(low), marking, 5),
        ("from a lower system", Box::new(from_low), marking, 5),
        ("direction", Box::new(|r| r.direction = Direction::SameLevel), inconsistent, 3),
        ("infected", Box::new(move |r| r.scans.push(scan(ScanResult::Infected))), not_clean, 5),
        ("scan failed", Box::new(move |r| r.scans.push(scan(ScanResult::Error))), not_clean, 5),
        ("same id", Box::new(|r| r.people.receiver.id = " 1".into()), same, 5),
        (
            "same keys",
            Box::new(|r| {
                r.people.giver.holder = Some("a".into());
                r.people.receiver.holder = Some("a".into());
            }),
            same,
            5,
        ),
        (
            "holder's name",
            Box::new(|r| r.people.giver.holder = Some("A b".into())),
            |k| matches!(k, ErrorKind::BadName { .. }),
            3,
        ),
        ("empty text", Box::new(|r| r.log_number = String::new()), bad_value, 3),
        ("control character", Box::new(|r| r.data_owner = "a\u{1b}[2J".into()), bad_value, 3),
        ("two lines", Box::new(|r| r.justification = "a\nb".into()), bad_value, 3),
        ("bidirectional", Box::new(|r| r.people.giver.name = "a\u{202e}b".into()), bad_value, 3),
        ("long", Box::new(|r| r.disposition = Some("a".repeat(241))), bad_value, 3),
        ("no media", Box::new(|r| r.media.clear()), inconsistent, 3),
        ("no volumes", Box::new(|r| r.media[0].volumes.clear()), inconsistent, 3),
        ("volumes fall", Box::new(|r| r.media[0].volumes = vec![2, 1]), inconsistent, 3),
        ("label twice", Box::new(|r| r.media.push(r.media[0].clone())), inconsistent, 3),
        ("no files", Box::new(|r| r.files.clear()), inconsistent, 3),
        ("file twice", Box::new(|r| r.files.push(r.files[0].clone())), inconsistent, 3),
        ("set id", Box::new(|r| r.set = "x".into()), inconsistent, 3),
        (
            "format",
            Box::new(|r| r.format = "lockgate-custody/2".into()),
            |k| matches!(k, ErrorKind::UnknownFormat { .. }),
            3,
        ),
    ];
    for (defect, change, is_kind, code) in cases {
        let mut bad = record(1, None);
        change(&mut bad);
        let error = bad.check().expect_err(defect);
        assert!(is_kind(error.kind()), "{defect}: {error}");
        assert_eq!(error.class().exit_code(), code, "{defect}");
    }
    record(1, None).check().unwrap();
}

#[test]
fn directions() {
    let cases = [
        ("UNCLASSIFIED", "SECRET", Direction::LowToHigh),
        ("SECRET", "CUI", Direction::HighToLow),
        ("SECRET", "SECRET", Direction::SameLevel),
        ("SECRET", "SECRET//NOFORN", Direction::SameLevel),
        ("SECRET//REL TO USA, GBR", "SECRET", Direction::LowToHigh),
        ("SECRET", "TOP SECRET//REL TO USA, GBR", Direction::LowToHigh),
    ];
    for (from, to, expected) in cases {
        let direction = Direction::between(&Marking::parse(from).unwrap(), &Marking::parse(to).unwrap());
        assert_eq!(direction, expected, "{from} to {to}");
    }
}

#[test]
fn against_the_list_and_the_files_on_hand() {
    let newest = record(1, None);
    check_against_list(&newest, &list()).unwrap();
    let other_file = SetFile { sha384: Sha384::of(b"w"), ..list().files[0].clone() };
    let unknown = SetFile { name: "v9.lgv".into(), ..list().files[0].clone() };
    let stray = Record { media: vec![Medium { volumes: vec![2], ..newest.media[0].clone() }], ..newest.clone() };
    let inconsistent = |record: &Record, list: &SetList| {
        let error = check_against_list(record, list).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "{error}");
    };
    inconsistent(&newest, &SetList { set: "ff".repeat(16), ..list() });
    inconsistent(&newest, &SetList { manifest_sha384: Sha384::of(b"n"), ..list() });
    inconsistent(&newest, &SetList { marking: Marking::UNCLASSIFIED, ..list() });
    inconsistent(&newest, &SetList { files: vec![unknown], ..list() });
    inconsistent(&stray, &list());
    let error = check_against_list(&newest, &SetList { files: vec![other_file], ..list() }).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::FileDiffers { .. }), "{error}");

    let proved =
        VerifiedCustody { records: vec![newest.clone()], signers: Vec::new(), newest, newest_sha384: Sha384::of(b"") };
    let (right, wrong) = ((5, Sha384::of(b"v")), (5, Sha384::of(b"w")));
    let name = || "v1.lgv".to_owned();
    assert_eq!(proved.differences(&[(name(), right.0, right.1)]), []);
    assert_eq!(proved.differences(&[]), [Difference::Missing { name: name() }]);
    assert_eq!(
        proved.differences(&[(name(), wrong.0, wrong.1), ("x".into(), 1, wrong.1)]),
        [
            Difference::Differs { name: name(), expected: right, found: wrong },
            Difference::NotOnRecord { name: "x".into() },
        ]
    );
    assert!(matches!(proved.check_manifest(&Sha384::of(b"n")).unwrap_err().kind(), ErrorKind::BadValue { .. }));
    proved.check_manifest(&Sha384::of(b"m")).unwrap();
}

#[test]
fn bounds_and_form() {
    let line = chain(1).to_bytes().unwrap();
    let error = UnverifiedCustody::parse(&line.repeat(257)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 256, .. }), "{error}");
    let error = UnverifiedCustody::parse(&vec![b'x'; (16 << 20) + 1]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
    assert!(matches!(UnverifiedCustody::parse(b"").unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
    let text = String::from_utf8(line).unwrap();
    for bad in [text.trim_end().to_owned(), text.replacen(':', ": ", 1)] {
        let error = UnverifiedCustody::parse(bad.as_bytes()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotCanonical { .. }), "{error}");
    }
    let many = (0..1001).map(|n| Medium { label: n.to_string(), ..record(1, None).media[0].clone() }).collect();
    let error = Record { media: many, ..record(1, None) }.check().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "{error}");
}

#[test]
fn a_draft_may_be_withdrawn_and_a_signed_record_not() {
    let mut chain = chain(2);
    assert_eq!(chain.withdraw_draft().unwrap().number, 2);
    assert_eq!(chain.claimed().len(), 1);
}
