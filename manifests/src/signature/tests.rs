use super::*;
use crate::key::ML_DSA_87_PUBLIC;
use crate::root::Holder;
use crate::text::{hex, unhex};
use crate::timestamp::Timestamp;

/// 100 keys and signatures of ML-DSA-87, foreseen by a digest (C2SP CCTV, `ML-DSA/accumulated`, CC0; the
/// Go project's tests hold the same one): seeds out of one SHAKE128, each public key and deterministic
/// signature of an empty message into another.
#[test]
fn known_answers_of_ml_dsa_87() {
    use fips204::traits::SerDes as _;
    use shake::digest::{ExtendableOutput as _, Update as _, XofReader as _};
    let (mut seeds, mut all) = (shake::Shake128::default().finalize_xof(), shake::Shake128::default());
    for _ in 0..100 {
        let mut seed = [0; 32];
        seeds.read(&mut seed);
        let key = ml_dsa::SigningKey::<ml_dsa::MlDsa87>::from_seed(&seed.into());
        let public = key.expanded_key().verifying_key();
        let encoded: [u8; 2592] = public.encode().as_slice().try_into().unwrap();
        let signature = key.expanded_key().sign_deterministic(b"", b"").unwrap().encode();
        let signature: [u8; ML_DSA_87_SIGNATURE] = signature.as_slice().try_into().unwrap();
        all.update(&encoded);
        all.update(&signature);
        let other = fips204::ml_dsa_87::PublicKey::try_from_bytes(encoded).unwrap();
        assert!(verify_ml_dsa(&public, b"", &signature) && verify_fips204(&other, b"", &signature));
        for bad in [0, 64, ML_DSA_87_SIGNATURE - 1].map(|at| {
            let mut bad = signature;
            bad[at] ^= 1;
            bad
        }) {
            assert!(!verify_ml_dsa(&public, b"", &bad) && !verify_fips204(&other, b"", &bad));
        }
        assert!(!verify_ml_dsa(&public, b"\0", &signature) && !verify_fips204(&other, b"\0", &signature));
    }
    let mut digest = [0; 32];
    all.finalize_xof().read(&mut digest);
    assert_eq!(hex(&digest), "8c3ad714777622b8f21ce31bb35f71394f23bc0fcf3c78ace5d608990f3b061b");
}

/// RFC 8032, 7.1, tests 1 to 3: secret seed, public key, message, signature.
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

#[test]
fn known_answers_of_ed25519() {
    use ed25519_dalek::Signer as _;
    for [seed, public, message, signature] in RFC_8032 {
        let [seed, public, message, signature] = [seed, public, message, signature].map(|hex| unhex(hex).unwrap());
        let key = PublicKey::Ed25519(public.as_slice().try_into().unwrap());
        verify_raw("TEST", &message, &key, &signature).unwrap();
        // The other implementation takes a raw signature only in minisign's older form, which binds a
        // comment by a second one.
        let signing = ed25519_dalek::SigningKey::from_bytes(seed.as_slice().try_into().unwrap());
        assert_eq!(signing.verifying_key().as_bytes().as_slice(), public);
        let global = signing.sign(&[&signature, &b"TEST"[..]].concat()).to_bytes();
        let minisign = minisign_verify::PublicKey::from_base64(&key.to_text()).unwrap();
        let taken = |message: &[u8], signature: &[u8]| {
            let head = [b"Ed", key.id().as_bytes().as_slice(), signature].concat();
            let (head, tail) = (crate::text::base64(&head), crate::text::base64(&global));
            let file = format!("untrusted comment: TEST\n{head}\ntrusted comment: TEST\n{tail}\n");
            let file = minisign_verify::Signature::decode(&file).unwrap();
            minisign.verify(message, &file, true).is_ok()
        };
        assert!(taken(&message, &signature));
        let other = [&message, &b"x"[..]].concat();
        assert!(!taken(&other, &signature));
        assert!(matches!(
            verify_raw("TEST", &other, &key, &signature).unwrap_err().kind(),
            ErrorKind::BadSignature { .. }
        ));
        for at in [0, 31, 32, 63] {
            let mut bad = signature.clone();
            bad[at] ^= 1;
            assert!(!taken(&message, &bad), "{at}");
            let error = verify_raw("TEST", &message, &key, &bad).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::BadSignature { .. }), "{at}: {error}");
        }
    }
}

/// A TEST key of ML-DSA-87 from a fixed seed, and its signature over a message.
fn signed_by(seed: u8, message: &[u8]) -> (PublicKey, Signature) {
    let key = ml_dsa::SigningKey::<ml_dsa::MlDsa87>::from_seed(&[seed; 32].into());
    let encoded = key.expanded_key().verifying_key().encode();
    let public = PublicKey::MlDsa87(Box::new(encoded.as_slice().try_into().unwrap()));
    let encoded = key.expanded_key().sign_deterministic(message, b"").unwrap().encode();
    let value = Value::MlDsa87(Box::new(encoded.as_slice().try_into().unwrap()));
    let signature = Signature { key: public.id(), value };
    (public, signature)
}

#[test]
fn implementations_that_disagree_prove_nothing() {
    let ((own, signature), (other, _)) = (signed_by(1, b"TEST"), signed_by(2, b"TEST"));
    let judge = |first: &PublicKey, second: &PublicKey| {
        let (Form::MlDsa87 { ml_dsa, .. }, Form::MlDsa87 { fips204, .. }) =
            (Expanded::of(first).form, Expanded::of(second).form)
        else {
            panic!("both keys are of ML-DSA-87")
        };
        let form = Form::MlDsa87 { ml_dsa, fips204 };
        signature.verify_with(&Document::new("TEST", b"TEST"), &Expanded { public: &own, form })
    };
    judge(&own, &own).unwrap();
    for refused in [judge(&own, &other), judge(&other, &own)] {
        let error = refused.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ImplementationsDisagree { scheme: "ml-dsa-87", .. }), "{error}");
    }
    let error = judge(&other, &other).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BadSignature { .. }), "{error}");
}

#[test]
fn a_signature_file_may_be_as_long_as_the_limit() {
    let key = KeyId::from_bytes([7; 8]);
    let file = |comment: usize| {
        let (signature, global) = (Box::new([1; 64]), Box::new([2; 64]));
        let value = Value::Ed25519 { signature, comment: "c".repeat(comment), global };
        Signature { key, value }.to_file()
    };
    let limit = usize::try_from(limits::SIGNATURE_BYTES).unwrap();
    let comment = limit - file(0).len();
    let longest = file(comment);
    assert_eq!(longest.len(), limit);
    let parsed = Signature::parse_file("TEST", key, Scheme::Ed25519, &longest).unwrap();
    assert_eq!(parsed.to_file(), longest);
    let error = Signature::parse_file("TEST", key, Scheme::Ed25519, &file(comment + 1)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BadValue { expected, .. } if expected == "at most 64 KiB"), "{error}");
}

/// Keys of a TEST office with which nobody signs.
fn office(seed: u8) -> [PublicKey; 2] {
    let point = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes();
    [PublicKey::Ed25519(point), PublicKey::MlDsa87(Box::new([seed; ML_DSA_87_PUBLIC]))]
}

/// A root of one holder with these keys.
fn root_of(keys: &[PublicKey]) -> TrustRoot {
    let time = |text| Timestamp::parse(text).unwrap();
    let (issued, expires) = (time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"));
    let office = Holder { name: "test-office".into(), keys: keys.to_vec() };
    TrustRoot::new(1, issued, expires, 1, &[office]).unwrap()
}

/// A signature that a key is said to have made. Nobody looks at its value here.
fn claimed(key: &PublicKey) -> Signature {
    let value = Value::Ed25519 { signature: Box::new([0; 64]), comment: "TEST".into(), global: Box::new([0; 64]) };
    Signature { key: key.id(), value }
}

/// What there is to verify in this order, each over a document that is called by its place.
fn in_order<'a>(signatures: &'a [Signature], keys: &[&'a PublicKey]) -> Vec<Check<'a>> {
    let places = ["0", "1", "2", "3", "4"];
    let claims = signatures.iter().zip(keys.iter().copied()).zip(places);
    claims
        .map(|((signature, key), place)| Check { document: Arc::new(Document::new(place, b"TEST")), signature, key })
        .collect()
}

#[test]
fn the_longest_work_comes_first_and_among_its_like_what_known_keys_should_have_signed() {
    let ([known_classic, known_quantum], [new_classic, new_quantum]) = (office(1), office(2));
    let trusted = root_of(&office(1));
    let keys = [&new_classic, &known_classic, &new_quantum, &known_quantum, &new_classic];
    let signatures = keys.map(claimed);
    let checks = in_order(&signatures, &keys);
    let order: Vec<(&PublicKey, Vec<usize>)> = by_key(&checks, &trusted)
        .into_iter()
        .map(|(key, of_key)| (key, of_key.into_iter().map(|(index, _)| index).collect()))
        .collect();
    let expected =
        [(&known_quantum, vec![3]), (&new_quantum, vec![2]), (&known_classic, vec![1]), (&new_classic, vec![0, 4])];
    assert_eq!(order, expected);
}

#[test]
fn the_error_is_that_of_the_first_signature_that_fails() {
    let [classic, quantum] = office(1);
    let trusted = root_of(&office(1));
    // What is first in order is verified last: ML-DSA takes longer and is begun first.
    let keys = [&classic, &quantum, &quantum];
    let signatures = keys.map(claimed);
    let checks = in_order(&signatures, &keys);
    for threads in [1, 2, 8] {
        let asked = Mutex::new(Vec::new());
        let refused = verify_all_by(threads, &checks, &trusted, &|check: &Check<'_>, _: &_| {
            asked.lock().unwrap().push(check.document.what.to_owned());
            let (document, key) = (check.document.what.to_owned(), String::new());
            Err(ErrorKind::BadSignature { document, scheme: "", key }.into())
        });
        let error = refused.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::BadSignature { document, .. } if document == "0"), "{error}");
        let asked = asked.into_inner().unwrap();
        assert!(threads > 1 || asked == ["1", "0"], "the third could change nothing: {asked:?}");
    }
}
