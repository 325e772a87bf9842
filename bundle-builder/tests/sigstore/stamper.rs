//! Time stamps (RFC 3161) by openssl.

use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::{Authority, when};
use crate::fixture;

/// An authority of time stamps and openssl, which makes them.
pub(crate) struct Stamper {
    dir: tempfile::TempDir,
    pub(crate) authority: Authority,
    chain: Vec<rcgen::Certificate>,
}

impl Stamper {
    pub(crate) fn new(from: u64) -> Self {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new(&ExtendedKeyUsagePurpose::TimeStamping));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        // openssl wants the usage to be critical, which rcgen's own is not.
        let content = vec![0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
        let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], content);
        usage.set_criticality(true);
        params.custom_extensions.push(usage);
        (params.not_before, params.not_after) = (when(from), when(from + 10_000_000));
        let certificate = authority.issue(&params, &key);
        let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        write("tsa.pem", certificate.pem());
        write("tsa.key", key.serialize_pem());
        write("serial", "01\n".into());
        let config = "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\ndefault_policy = 1.2.3.4\ndigests = sha256, sha384\n\
                      signer_digest = sha256\ness_cert_id_alg = sha256\n";
        write("tsa.cnf", config.into());
        let [below, top] =
            <[_; 2]>::try_from(authority.chain.iter().map(|c| c.der().to_vec()).collect::<Vec<_>>()).unwrap();
        assert_ne!(below, top);
        Self { dir, chain: vec![certificate], authority }
    }

    pub(crate) fn all(&self) -> Vec<rcgen::Certificate> {
        self.chain.iter().chain(&self.authority.chain).cloned().collect()
    }

    /// A `TimeStampResp` over `bytes`, made now.
    pub(crate) fn stamp(&self, bytes: &[u8], hash: &str) -> Vec<u8> {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(self.dir.path().join("data"), bytes).unwrap();
        let (data, query, reply) = (path("data"), path("query"), path("reply"));
        fixture::run("openssl", &["ts", "-query", "-data", &data, hash, "-cert", "-out", &query]);
        let run = format!(
            "cd {} && openssl ts -reply -config tsa.cnf -section one -queryfile query -signer tsa.pem -inkey tsa.key -out reply",
            self.dir.path().display()
        );
        fixture::run("sh", &["-c", &run]);
        fs::read(Path::new(&reply)).unwrap()
    }
}
