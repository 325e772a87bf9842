//! `docker://` the pull half of the OCI distribution specification 1.1.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use bundle_format::digest::Sha256;
use bundle_format::oci;
use bundle_format::release::DockerReference;
use serde::Deserialize;
use ureq::Body;
use ureq::http::Response;

use super::challenge::Challenge;
use super::credentials::{self, Credentials};
use super::http::{Ask, Http};
use super::{BlobRef, ImageSource, RegistryOptions, read_document};
use crate::{Error, ErrorKind, Result};

/// One repository of a registry and the tag or digest asked for.
pub(super) struct Registry {
    http: Http,
    host: String,
    endpoint: String,
    repository: String,
    reference: String,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    pub(super) fn open(reference: &DockerReference, options: &RegistryOptions) -> Result<Self> {
        let host = reference.registry.clone();
        // Docker's own hub answers under another name than its images carry.
        let docker_hub = host == "docker.io";
        let server = if docker_hub { "registry-1.docker.io" } else { host.as_str() };
        let repository = match reference.repository.as_str() {
            short if docker_hub && !short.contains('/') => format!("library/{short}"),
            full => full.to_owned(),
        };
        let http = Http::open(&host, options)?;
        let endpoint = format!("{}://{server}/v2/{repository}", http.scheme(server));
        let credentials = credentials::find(&options.auth, &host, &repository)?;
        let (reference, authorization) = (reference.reference.clone(), Mutex::new(None));
        Ok(Self { http, host, endpoint, repository, reference, credentials, authorization })
    }

    /// GETs a path of the repository; answers one challenge.
    fn get(&self, path: &str, accept: Option<&str>) -> Result<Response<Body>> {
        let url = format!("{}/{path}", self.endpoint);
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = self.http.get(&url, Ask { accept, authorization: known.as_deref() })?;
        if response.status() != 401 {
            return self.permitted(response);
        }
        let authorization = self.answer(&response)?;
        let response = self.http.get(&url, Ask { accept, authorization: Some(&authorization) })?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        self.permitted(response)
    }

    fn permitted(&self, response: Response<Body>) -> Result<Response<Body>> {
        match response.status().as_u16() {
            401 | 403 => Err(self.unauthorized()),
            _ => Ok(response),
        }
    }

    /// The `Authorization` that the registry's challenge asks for.
    fn answer(&self, response: &Response<Body>) -> Result<String> {
        let headers = response.headers().get_all("www-authenticate");
        let challenge = headers.iter().filter_map(|value| value.to_str().ok()).find_map(Challenge::parse);
        match challenge {
            None => Err(self.http.bad("a 401 without a challenge that this program speaks")),
            Some(Challenge::Basic) => {
                self.credentials.as_ref().map(Credentials::basic).ok_or_else(|| self.unauthorized())
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                self.token(&realm, service.as_deref(), &scope)
            }
        }
    }

    /// Asks the token server, with our credentials if there are any: that a registry may name
    /// another host for this is the protocol; that host must prove itself by TLS as well.
    fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<String> {
        let mut url = format!("{realm}{}scope={}", if realm.contains('?') { '&' } else { '?' }, encoded(scope));
        if let Some(service) = service {
            url.push_str("&service=");
            url.push_str(&encoded(service));
        }
        let basic = self.credentials.as_ref().map(Credentials::basic);
        let response = self.http.get(&url, Ask { accept: None, authorization: basic.as_deref() })?;
        let response = self.permitted(response)?;
        if response.status() != 200 {
            return Err(self.http.bad(&format!("status {} from the token server", response.status().as_u16())));
        }
        let bytes = read_document(reader(response), &self.what())?;
        let bad = || self.http.bad("a token answer without a token");
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        Ok(format!("Bearer {}", token.token.or(token.access_token).ok_or_else(bad)?))
    }

    fn unauthorized(&self) -> Error {
        let found = match &self.credentials {
            Some(credentials) => format!("those of user {:?}", credentials.user),
            None => "none".into(),
        };
        ErrorKind::Unauthorized { registry: self.host.clone(), found }.into()
    }

    /// A manifest's bytes and the media type of its answer; `None` on 404.
    fn fetch_manifest(&self, reference: &str) -> Result<Option<(Vec<u8>, String)>> {
        let accept = [oci::OCI_INDEX, oci::OCI_MANIFEST, oci::DOCKER_LIST, oci::DOCKER_MANIFEST].join(", ");
        let response = self.get(&format!("manifests/{reference}"), Some(&accept))?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            other => return Err(self.http.bad(&format!("status {other} for manifest {reference}"))),
        }
        let media_type = media_type(&response);
        Ok(Some((read_document(reader(response), &self.what())?, media_type)))
    }
}

impl ImageSource for Registry {
    fn what(&self) -> String {
        let mark = if self.reference.contains(':') { '@' } else { ':' };
        format!("docker://{}/{}{mark}{}", self.host, self.repository, self.reference)
    }

    fn top(&self) -> Result<Option<(Vec<u8>, String)>> {
        let Some((bytes, media_type)) = self.fetch_manifest(&self.reference)? else {
            return Ok(None);
        };
        // A reference by digest says what must come.
        if let Ok(expected) = Sha256::parse(&self.reference) {
            let found = Sha256::of(&bytes);
            if found != expected {
                return Err(ErrorKind::SourceDigest { what: self.what(), expected, found }.into());
            }
        }
        Ok(Some((bytes, media_type)))
    }

    fn manifest(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        let missing = || ErrorKind::BlobMissing { what: self.what(), digest: blob.digest };
        Ok(self.fetch_manifest(&blob.digest.to_string())?.ok_or_else(missing)?.0)
    }

    fn referrers(&self, subject: &Sha256) -> Result<Vec<BlobRef>> {
        let response = self.get(&format!("referrers/{subject}"), Some(oci::OCI_INDEX))?;
        let index = if response.status() == 200 && media_type(&response) == oci::OCI_INDEX {
            Some(read_document(reader(response), &self.what())?)
        } else {
            // A registry of before 1.1: clients keep the list under a tag (distribution-spec 1.1,
            // "Referrers Tag Schema"). What is no index there is no list.
            let tagged = self.fetch_manifest(&format!("sha256-{}", subject.hex()))?;
            tagged.filter(|(_, media_type)| media_type == oci::OCI_INDEX).map(|(bytes, _)| bytes)
        };
        let Some(index) = index else { return Ok(Vec::new()) };
        let entries = oci::parse_index(&index, oci::OCI_INDEX)?.manifests;
        Ok(entries.iter().filter(|entry| entry.media_type == oci::OCI_MANIFEST).map(super::blob_ref).collect())
    }

    fn tagged(&self, tag: &str) -> Result<Option<BlobRef>> {
        let found = self.fetch_manifest(tag)?;
        Ok(found.map(|(bytes, media_type)| BlobRef {
            digest: Sha256::of(&bytes),
            size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            media_type,
        }))
    }

    fn blob(&self, blob: &BlobRef) -> Result<Box<dyn Read + Send>> {
        let response = self.get(&format!("blobs/{}", blob.digest), None)?;
        match response.status().as_u16() {
            200 => Ok(Box::new(reader(response))),
            404 => Err(ErrorKind::BlobMissing { what: self.what(), digest: blob.digest }.into()),
            other => Err(self.http.bad(&format!("status {other} for blob {}", blob.digest))),
        }
    }
}

/// The media type of an answer, without parameters.
fn media_type(response: &Response<Body>) -> String {
    let header = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    header.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned()
}

/// The body; its length is the caller's to bound.
fn reader(response: Response<Body>) -> impl Read + Send + 'static {
    response.into_body().into_with_config().limit(u64::MAX).reader()
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&bundle_format::text::hex(&[byte]).to_ascii_uppercase());
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding() {
        assert_eq!(encoded("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
