//! Defects of documents about a release and of those that a site and its people sign: attachments,
//! provenance, approvals, inventories.

use std::collections::BTreeMap;

use bundle_format::appliance::AppliancePublic;
use bundle_format::approval::{Approval, PlanDocument, UnverifiedApproval, verify};
use bundle_format::attachment::{Attachment, Origin, require_provenance, require_sboms};
use bundle_format::digest::{Sha256, Sha384};
use bundle_format::inventory::{AuditHead, ENVELOPE_FORMAT, Installed, Inventory};
use bundle_format::key::Scheme;
use bundle_format::manifest::Blob;
use bundle_format::marking::Marking;
use bundle_format::pack::Encoding;
use bundle_format::provenance::{self, Resource, Statement};
use bundle_format::root::{RootEnvelope, TrustedRoot};
use bundle_format::signature::{AlgorithmPolicy, Signature};
use bundle_format::timestamp::Timestamp;
use bundle_format::{Result, json};
use signing_keys::Signer;
use system_tests::keys::{self, ada, alice, amos, anchor, envelope_file, mallory};
use system_tests::{Draft, prove};

use crate::{Vector, breaks, part, vector};

fn sbom(image: Sha256, format: &str, content: &[u8]) -> Attachment {
    Attachment::Sbom { image, format: format.into(), origin: Origin::Publisher, digest: Sha256::of(content) }
}

/// The small bundle with documents in a pack of their own.
fn with(attachments: Vec<Attachment>, blobs: &[&[u8]]) -> Draft {
    let mut draft = Draft::small();
    if !blobs.is_empty() {
        draft.add_pack(Encoding::Raw, blobs);
    }
    draft.manifest.attachments = attachments;
    draft
}

/// A sound bundle with an SBOM and a provenance statement.
pub(crate) fn attached() -> Draft {
    let image = Draft::small().manifest.images[0].digest;
    let statement = Attachment::Provenance { digest: Sha256::of(b"TEST statement") };
    with(vec![sbom(image, "spdx-2.3", b"TEST sbom"), statement], &[b"TEST sbom", b"TEST statement"])
}

fn attachments() -> Vec<Vector> {
    let image = Draft::small().manifest.images[0].digest;
    let two: &[&[u8]] = &[b"TEST sbom", b"TEST more"];
    let provenance = |content| Attachment::Provenance { digest: Sha256::of(content) };
    let formats = [
        ("SBOM format that climbs", "../../etc/passwd"),
        ("SBOM format in a folder", "a/b"),
        ("SBOM without a format", ""),
        ("hidden SBOM format", ".hidden"),
        ("SBOM format that moves the cursor", "x\u{1b}[2J"),
    ];
    let formats = formats.map(|(defect, format)| {
        vector!(defect, BadName, "SBOM format", with(vec![sbom(image, format, two[0])], &two[..1]).archive())
    });
    let texts = [
        ("SBOM of an unknown origin", "\"origin\":\"publisher\"", "\"origin\":\"nobody\""),
        ("attachment of an unknown kind", "\"kind\":\"sbom\"", "\"kind\":\"licence\""),
    ];
    let texts = texts.map(|(defect, from, to)| {
        let draft = attached();
        assert!(draft.text().contains(from));
        let text = draft.text().replacen(from, to, 1).into_bytes();
        vector!(defect, Json, "unknown variant", draft.sealed_text(text).archive())
    });
    let doubles = [
        vector!("SBOM of no image", Inconsistent, "no image of it", {
            with(vec![sbom(Sha256::of(b"x"), "spdx-2.3", two[0])], &two[..1]).archive()
        }),
        vector!("two SBOMs of one image", Inconsistent, "two SBOMs", {
            with(vec![sbom(image, "spdx-2.3", two[0]), sbom(image, "spdx-2.2", two[1])], two).archive()
        }),
        vector!("two provenance statements", Inconsistent, "2 provenance statements", {
            with(vec![provenance(two[0]), provenance(two[1])], two).archive()
        }),
    ];
    let carried = [
        vector!("SBOM that no pack holds", Inconsistent, "which no pack holds", {
            with(vec![sbom(image, "spdx-2.3", b"TEST gone")], &[]).archive()
        }),
        vector!("document that nothing names", Inconsistent, "nothing names it", with(vec![], &two[..1]).archive()),
    ];
    let required = [
        part!("no SBOM where the site requires one", Requirement, "sbom", || require_sboms(&Draft::small().manifest)),
        part!("no provenance where the site requires it", Requirement, "provenance", || {
            require_provenance(&Draft::small().manifest)
        }),
    ];
    [
        breaks(&["R-MAN-10"], formats),
        breaks(&["R-MAN-10"], texts),
        breaks(&["R-MAN-10"], doubles),
        breaks(&["R-MAN-7"], carried),
        breaks(&["R-POL-2"], required),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn statement() -> Statement {
    let manifest = Draft::small().manifest;
    Statement {
        kind: provenance::STATEMENT.into(),
        subject: provenance::subjects(&manifest),
        predicate_type: provenance::PREDICATE.into(),
        predicate: provenance::Predicate {
            build_definition: provenance::BuildDefinition {
                build_type: provenance::BUILD_TYPE.into(),
                external_parameters: provenance::Parameters {
                    product: manifest.product.clone(),
                    release: manifest.release.clone(),
                    sequence: manifest.sequence,
                    release_manifest_sha384: Sha384::of(b"release"),
                    lock_sha384: Sha384::of(b"lock"),
                },
                resolved_dependencies: Vec::new(),
            },
            run_details: provenance::RunDetails {
                builder: provenance::Builder { id: "urn:test:builder".into(), version: BTreeMap::new() },
            },
        },
    }
}

fn check(envelope: &[u8]) -> Result<()> {
    provenance::check(envelope, &Draft::small().manifest, keys::two_of_three().claimed()).map(drop)
}

/// Judges a statement that was changed before it was signed.
fn stated(change: fn(&mut Statement)) -> impl Fn() -> Result<()> {
    move || {
        let mut statement = statement();
        change(&mut statement);
        check(&signed_by(&statement, &[&alice()]))
    }
}

fn signed_by(statement: &Statement, signers: &[&Signer]) -> Vec<u8> {
    let payload = provenance::to_payload(statement).unwrap();
    let sign = |signer: &&Signer| signer.sign_raw(&provenance::pae(&payload)).unwrap();
    let signatures: Vec<_> = signers.iter().flat_map(sign).collect();
    provenance::seal(&payload, &signatures).unwrap()
}

/// Judges a sound statement before a site that asks for a builder's signature.
fn built(root: &RootEnvelope, signers: &[&Signer], policy: AlgorithmPolicy) -> Result<()> {
    built_as(&signed_by(&statement(), signers), root, policy)
}

fn built_as(envelope: &[u8], root: &RootEnvelope, policy: AlgorithmPolicy) -> Result<()> {
    let read = provenance::check(envelope, &Draft::small().manifest, root.claimed()).expect("sound in itself");
    provenance::require_signed(&read, root.claimed(), policy)
}

#[test]
fn a_builders_signature_is_what_a_site_may_ask_for() {
    let (agreed, bella) = (keys::root_with_builders(1, &[&keys::bella()]), keys::bella());
    for policy in [AlgorithmPolicy::Hybrid, AlgorithmPolicy::Cnsa2, AlgorithmPolicy::Ed25519] {
        built(&agreed, &[&bella], policy).unwrap();
        built(&keys::two_of_three(), &[&alice()], policy).unwrap();
    }
}

fn provenances() -> Vec<Vector> {
    let over = |document: fn(&[u8]) -> Vec<u8>, which: usize| {
        move || {
            let payload = provenance::to_payload(&statement()).unwrap();
            let signature = alice().sign_raw(&document(&payload)).unwrap().swap_remove(which);
            check(&provenance::seal(&payload, &[signature]).unwrap())
        }
    };
    let other = |_: &[u8]| provenance::pae(b"TEST other");
    let formats = [
        part!("statement of another version", UnknownFormat, "v0.1", {
            stated(|s| s.kind = "https://in-toto.io/Statement/v0.1".into())
        }),
        part!("provenance of another version", UnknownFormat, "v0.2", {
            stated(|s| s.predicate_type = "https://slsa.dev/provenance/v0.2".into())
        }),
        part!("build of another type", UnknownFormat, "urn:other", {
            stated(|s| s.predicate.build_definition.build_type = "urn:other".into())
        }),
        part!("envelope of another payload", UnknownFormat, "vnd.other", || {
            let text = String::from_utf8(signed_by(&statement(), &[])).unwrap();
            check(text.replace("vnd.in-toto", "vnd.other").as_bytes())
        }),
    ];
    let subjects = [
        part!("statement without an image", Inconsistent, "does not name image/", {
            stated(|s| s.subject.retain(|subject| !subject.name.as_ref().unwrap().starts_with("image/")))
        }),
        part!("statement without a file", Inconsistent, "does not name file/", {
            stated(|s| drop(s.subject.remove(0)))
        }),
        part!("statement with a subject more", Inconsistent, "does not have", {
            stated(|s| s.subject.push(Resource::sha256("z", &Sha256::of(b"z"))))
        }),
        part!("statement with a subject twice", Inconsistent, "twice", {
            stated(|s| s.subject.push(s.subject[0].clone()))
        }),
        part!("statement about other bytes", Inconsistent, "does not name", {
            stated(|s| s.subject[0] = Resource::sha256(s.subject[0].name.clone().unwrap(), &Sha256::of(b"z")))
        }),
        part!("statement about another sequence", Inconsistent, "not about the release", {
            stated(|s| s.predicate.build_definition.external_parameters.sequence += 1)
        }),
        part!("statement about another product", Inconsistent, "not about the release", {
            stated(|s| s.predicate.build_definition.external_parameters.product = "other".into())
        }),
    ];
    let signatures = [
        part!("statement signed by a stranger", UnknownKey, "does not list", || {
            check(&signed_by(&statement(), &[&mallory()]))
        }),
        part!("statement signed twice by one key", DuplicateSignature, "appears twice", || {
            check(&signed_by(&statement(), &[&alice(), &alice()]))
        }),
        part!("statement with Ed25519 over another", BadSignature, "ed25519", over(other, 0)),
        part!("statement with ML-DSA over another", BadSignature, "ml-dsa-87", over(other, 1)),
        part!("statement signed without its type", BadSignature, "ed25519", over(<[u8]>::to_vec, 0)),
        part!("statement with a signature cut", BadSignature, "ml-dsa-87", || {
            let payload = provenance::to_payload(&statement()).unwrap();
            let (key, mut signature) = alice().sign_raw(&provenance::pae(&payload)).unwrap().swap_remove(1);
            signature.pop();
            check(&provenance::seal(&payload, &[(key, signature)]).unwrap())
        }),
    ];
    let asked = [
        part!(
            "statement without a build signature, where one is asked for",
            Requirement,
            "no ed25519 key of role release",
            || { built(&keys::two_of_three(), &[], AlgorithmPolicy::Hybrid) }
        ),
        part!("statement signed by a releaser where the root names builders", Requirement, "of role builder", || {
            built(&keys::root_with_builders(1, &[&keys::bella()]), &[&alice()], AlgorithmPolicy::Hybrid)
        }),
        part!("statement signed by a transfer agent", Requirement, "of role release", || {
            built(&keys::root_with_agents(1, &[&keys::tina()]), &[&keys::tina()], AlgorithmPolicy::Hybrid)
        }),
        part!("statement with a build signature of one algorithm", Requirement, "no ml-dsa-87 key", || {
            let payload = provenance::to_payload(&statement()).unwrap();
            let ed25519 = alice().sign_raw(&provenance::pae(&payload)).unwrap().swap_remove(0);
            let envelope = provenance::seal(&payload, &[ed25519]).unwrap();
            built_as(&envelope, &keys::two_of_three(), AlgorithmPolicy::Cnsa2)
        }),
    ];
    let large = [part!("provenance over 16 MiB", TooLarge, "provenance", || check(&vec![b' '; (16 << 20) + 1]))];
    let fields = [part!("provenance with an unknown field", Json, "unknown field", || {
        let text = String::from_utf8(signed_by(&statement(), &[])).unwrap();
        check(text.replace("\"signatures\":[]", "\"signatures\":[],\"x\":1").as_bytes())
    })];
    [
        breaks(&["R-PRV-1"], formats),
        breaks(&["R-PRV-2"], subjects),
        breaks(&["R-PRV-3"], signatures),
        breaks(&["R-PRV-4"], asked),
        breaks(&["R-LIM-72"], large),
        breaks(&["R-JSON-2"], fields),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const NOW: &str = "2026-11-25T12:00:00Z";

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn plan() -> Sha384 {
    Sha384::of(b"TEST plan")
}

fn approval(holder: &str, signers: &[&Signer], plan: Sha384, time: &str) -> UnverifiedApproval {
    let mut made = UnverifiedApproval::new(Approval::new(plan, holder, "TEST reason", at(time)).unwrap()).unwrap();
    for signer in signers {
        signer.sign_approval(&mut made).unwrap();
    }
    made
}

fn own(signer: &Signer) -> UnverifiedApproval {
    approval(signer.name(), &[signer], plan(), NOW)
}

/// With the signature of one scheme alone.
fn half(signer: &Signer, scheme: Scheme) -> UnverifiedApproval {
    let mut made = approval(signer.name(), &[], plan(), NOW);
    let both = signer.sign(made.document(), &made.comment()).unwrap();
    made.add(both.into_iter().find(|signature| signature.scheme() == scheme).unwrap());
    made
}

/// Approvals of the plan, before a root.
fn judged(root: fn() -> TrustedRoot, approvals: fn() -> Vec<UnverifiedApproval>) -> impl Fn() -> Result<()> {
    move || verify(&approvals(), &plan(), &root(), AlgorithmPolicy::Hybrid, &at(NOW)).map(drop)
}

fn with_approvers() -> TrustedRoot {
    anchor(&keys::root_with_approvers())
}

/// An approval's text, changed and signed anew.
fn approval_text(from: &'static str, to: &'static str) -> impl Fn() -> Result<()> {
    move || {
        let document = String::from_utf8(own(&ada()).document().to_vec()).unwrap();
        assert!(document.contains(from), "{document}");
        let document = document.replace(from, to);
        let signatures = ada().sign(document.as_bytes(), "TEST").unwrap().to_vec();
        UnverifiedApproval::parse(&envelope_file("lockgate-approval-envelope/1", &document, signatures)).map(drop)
    }
}

fn approvals() -> Vec<Vector> {
    let site = with_approvers;
    let forms = [
        part!("approval of another format", UnknownFormat, "approval/2", approval_text("approval/1", "approval/2")),
        part!("approver in capitals", BadName, "approver", approval_text("test-ada", "Test-Ada")),
        part!("approval without a reason", BadValue, "reason", approval_text("TEST reason", " ")),
        part!("approval with a reason of two lines", BadValue, "reason", approval_text("TEST reason", "a\\nb")),
        part!("approval with a space", NotCanonical, "approval", approval_text(":\"TEST", ": \"TEST")),
        part!("signed comment about another plan", BadValue, "trusted comment", {
            judged(site, || {
                let mut moved = own(&amos());
                moved.add(amos().sign(moved.document(), "lockgate approval plan=other").unwrap()[0].clone());
                vec![own(&ada()), moved]
            })
        }),
    ];
    let sizes = [
        part!("approval over 64 KiB", TooLarge, "approval", || {
            UnverifiedApproval::parse(&vec![b' '; (64 << 10) + 1]).map(drop)
        }),
        part!("plan over 64 KiB", TooLarge, "plan", || PlanDocument::parse(&vec![b' '; (64 << 10) + 1]).map(drop)),
    ];
    let signers = [
        part!("no approval", Threshold, "role approve needs 2", judged(site, Vec::new)),
        part!("one approval of two", Threshold, "found 1", judged(site, || vec![own(&ada())])),
        part!("one approval twice", DuplicateSignature, "appears twice", {
            judged(site, || vec![own(&ada()), own(&ada())])
        }),
        part!("one approver, one algorithm each", Threshold, "found 1", {
            judged(site, || vec![half(&ada(), Scheme::Ed25519), half(&ada(), Scheme::MlDsa87)])
        }),
        part!("approval by a release signer", Threshold, "found 1", judged(site, || vec![own(&ada()), own(&alice())])),
        part!("approvals by nobody whom the root lists", UnknownKey, "does not list", {
            judged(|| anchor(&keys::two_of_three()), || vec![own(&ada()), own(&amos())])
        }),
        part!("approval by a stranger too", UnknownKey, "does not list", {
            judged(site, || vec![own(&ada()), own(&amos()), own(&mallory())])
        }),
        part!("approvals under a root without approvers", RoleMissing, "approve", {
            judged(|| anchor(&keys::two_of_three()), Vec::new)
        }),
    ];
    let holders = [
        part!("approval in another's name", ApprovalHolder, "test-ada", {
            judged(site, || vec![own(&ada()), approval("test-ada", &[&amos()], plan(), NOW)])
        }),
        part!("one approval by two", ApprovalHolder, "test-ada", {
            judged(site, || vec![approval("test-ada", &[&ada(), &amos()], plan(), NOW)])
        }),
        part!("one person as two beside another", ApprovalSamePerson, "test-ada", {
            judged(site, || vec![half(&ada(), Scheme::Ed25519), half(&ada(), Scheme::MlDsa87), own(&amos())])
        }),
    ];
    let plans = [part!("plan that changed after the first approval", ApprovalPlan, "test-amos", {
        judged(site, || vec![own(&ada()), approval("test-amos", &[&amos()], Sha384::of(b"TEST other plan"), NOW)])
    })];
    let times = [
        part!("approval of the day before yesterday", ApprovalStale, "test-amos", {
            judged(site, || vec![own(&ada()), approval("test-amos", &[&amos()], plan(), "2026-11-24T11:59:59Z")])
        }),
        part!("approval from the future", ApprovalStale, "test-amos", {
            judged(site, || vec![own(&ada()), approval("test-amos", &[&amos()], plan(), "2026-11-26T12:00:01Z")])
        }),
    ];
    [
        breaks(&["R-APR-1"], forms),
        breaks(&["R-APR-1", "R-LIM-53"], sizes),
        breaks(&["R-APR-2"], signers),
        breaks(&["R-APR-3"], holders),
        breaks(&["R-APR-4"], plans),
        breaks(&["R-APR-5", "R-LIM-52"], times),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A machine's key.
fn machine() -> Signer {
    keys::signer("test-machine", 51)
}

fn machine_public() -> AppliancePublic {
    AppliancePublic::new(machine().public().holder().keys.try_into().unwrap())
}

fn inventory() -> Inventory {
    let mut blobs = [b"a", b"b"].map(|content| Blob { digest: Sha256::of(content), size: 1 }).to_vec();
    blobs.sort_by_key(|blob| blob.digest);
    let installed = |product: &str| Installed {
        product: product.into(),
        release: "1.0".into(),
        sequence: 1,
        manifest_sha384: Sha384::of(b"m"),
    };
    Inventory {
        format: bundle_format::inventory::FORMAT.into(),
        key: machine_public().fingerprint().unwrap(),
        at: at(NOW),
        marking: Marking::UNCLASSIFIED,
        releases: vec![installed("a"), installed("b")],
        blobs,
        audit: Some(AuditHead { seq: 7, hash: Sha384::of(b"record") }),
    }
}

fn signatures_of(signer: &Signer, payload: &[u8]) -> Vec<Signature> {
    signer.sign(payload, &Inventory::comment(payload)).unwrap().to_vec()
}

/// An inventory whose text was changed, signed by the machine, and judged by its key.
fn listed(change: fn(String) -> String) -> impl Fn() -> Result<()> {
    move || {
        let text = String::from_utf8(json::to_bytes("inventory", &inventory()).unwrap()).unwrap();
        let text = change(text);
        let signatures = signatures_of(&machine(), text.as_bytes());
        Inventory::verify(&envelope_file(ENVELOPE_FORMAT, &text, signatures), &machine_public()).map(drop)
    }
}

/// A sound inventory with other signatures.
fn inventory_signed(sign: fn(&[u8]) -> Vec<Signature>) -> impl Fn() -> Result<()> {
    move || {
        let payload = inventory().to_bytes().unwrap();
        let signatures = sign(&payload);
        let text = std::str::from_utf8(&payload).unwrap();
        Inventory::verify(&envelope_file(ENVELOPE_FORMAT, text, signatures), &machine_public()).map(drop)
    }
}

fn inventories() -> Vec<Vector> {
    listed(|text| text)().unwrap();
    let changed = |change: fn(&mut Inventory)| {
        move || {
            let mut list = inventory();
            change(&mut list);
            let payload = json::to_bytes("inventory", &list).unwrap();
            let signatures = signatures_of(&machine(), &payload);
            let text = std::str::from_utf8(&payload).unwrap();
            Inventory::verify(&envelope_file(ENVELOPE_FORMAT, text, signatures), &machine_public()).map(drop)
        }
    };
    let forms = [
        part!("blobs of an inventory out of order", Inconsistent, "unsorted", changed(|i| i.blobs.reverse())),
        part!("blob twice in an inventory", Inconsistent, "doubled", changed(|i| i.blobs.push(i.blobs[1]))),
        part!("products of an inventory out of order", Inconsistent, "unsorted", changed(|i| i.releases.reverse())),
        part!("inventory of another format", UnknownFormat, "inventory/3", {
            listed(|text| text.replace("inventory/2", "inventory/3"))
        }),
        part!("inventory with a space", NotCanonical, "inventory", listed(|text| text.replacen(':', ": ", 1))),
        part!("inventory with an unknown field", Json, "unknown field", {
            listed(|text| text.replacen("\"at\"", "\"x\":1,\"at\"", 1))
        }),
    ];
    let heads = [
        part!("inventory without the head of the audit log", Inconsistent, "lacks the audit log's head", {
            changed(|i| i.audit = None)
        }),
        part!("inventory with a head of no record", Inconsistent, "lacks the audit log's head", {
            changed(|i| i.audit = Some(AuditHead { seq: 0, hash: Sha384::of(b"record") }))
        }),
        part!("inventory of the former format with a head", Inconsistent, "has no audit log's head", {
            changed(|i| i.format = "lockgate-inventory/1".into())
        }),
        part!("inventory with half a head", Json, "missing field `hash`", {
            listed(|text| text.replacen(&format!(",\"hash\":\"{}\"", Sha384::of(b"record")), "", 1))
        }),
    ];
    let large = [part!("inventory over 24 MiB", TooLarge, "inventory", || {
        Inventory::claimed(&vec![b' '; (24 << 20) + 1]).map(drop)
    })];
    let comments = [part!("signed comment of another inventory", BadValue, "trusted comment", {
        inventory_signed(|payload| machine().sign(payload, "lockgate inventory sha384=00").unwrap().to_vec())
    })];
    let signatures = [
        part!("inventory that nobody signed", BadSignature, "no signature by key", inventory_signed(|_| Vec::new())),
        part!("inventory without ML-DSA", BadSignature, "no signature by key", {
            inventory_signed(|payload| signatures_of(&machine(), payload)[..1].to_vec())
        }),
        part!("inventory signed by another machine", BadSignature, "no signature by key", {
            inventory_signed(|payload| signatures_of(&mallory(), payload))
        }),
        part!("inventory signed by somebody else too", BadSignature, "somebody else", {
            inventory_signed(|payload| {
                [signatures_of(&machine(), payload), signatures_of(&mallory(), payload)].concat()
            })
        }),
        part!("inventory signed over another text", BadSignature, "does not verify", {
            inventory_signed(|payload| machine().sign(b"other", &Inventory::comment(payload)).unwrap().to_vec())
        }),
        part!("inventory that names another key", BadSignature, "names another key", {
            changed(|i| i.key = Sha384::of(b"other"))
        }),
    ];
    [
        breaks(&["R-INV-1"], forms),
        breaks(&["R-INV-4"], heads),
        breaks(&["R-INV-1", "R-LIM-65"], large),
        breaks(&["R-INV-2"], comments),
        breaks(&["R-INV-3"], signatures),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn vectors() -> Vec<Vector> {
    [attachments(), provenances(), approvals(), inventories()].into_iter().flatten().collect()
}

#[test]
fn what_the_vectors_are_made_of_is_sound() {
    let good = attached();
    prove(&good.archive(), &good.trusted()).unwrap();
    require_sboms(&good.manifest).unwrap();
    require_provenance(&good.manifest).unwrap();
    check(&signed_by(&statement(), &[&alice()])).unwrap();
    judged(with_approvers, || vec![own(&ada()), own(&amos())])().unwrap();
}
