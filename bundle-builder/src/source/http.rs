//! HTTP for the registry client: TLS always, redirects by hand.
//!
//! What may hurt it: a redirect that carries credentials to another host or drops TLS. Who
//! defends: each URL passes [`Http::check_url`], and `Authorization` goes to the first host only.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body};

use super::{PlainHttp, RegistryOptions};
use crate::{Error, ErrorKind, Result};

/// Redirects that are followed; registries need one.
const REDIRECTS: usize = 5;

/// A client for one registry and whatever it points to.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    registry: String,
    without_tls: PlainHttp,
}

/// Headers of one request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ask<'a> {
    /// `Accept`.
    pub(super) accept: Option<&'a str>,
    /// `Authorization`.
    pub(super) authorization: Option<&'a str>,
}

impl Http {
    pub(super) fn open(registry: &str, options: &RegistryOptions) -> Result<Self> {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::from(roots(options)?.into_iter()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("bundle-builder/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Ok(Self { agent, registry: registry.into(), without_tls: options.plain_http })
    }

    /// `https`, or `http` where that is allowed for `host`.
    pub(super) fn scheme(&self, host: &str) -> &'static str {
        if self.without_tls == PlainHttp::LoopbackOnly && is_loopback(host) { "http" } else { "https" }
    }

    /// GETs `url`, following redirects; the status is the caller's to judge.
    pub(super) fn get(&self, url: &str, ask: Ask<'_>) -> Result<Response<Body>> {
        let mut uri: Uri = url.parse().map_err(|_| self.bad("a URL that does not parse"))?;
        let first = uri.authority().cloned();
        for _ in 0..=REDIRECTS {
            self.check_url(&uri)?;
            let mut request = self.agent.get(uri.clone());
            if let Some(accept) = ask.accept {
                request = request.header("Accept", accept);
            }
            if let Some(authorization) = ask.authorization.filter(|_| uri.authority() == first.as_ref()) {
                request = request.header("Authorization", authorization);
            }
            let response = request.call().map_err(|error| self.failed(&uri, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            uri = self.follow(&uri, location.ok_or_else(|| self.bad("a redirect to nowhere"))?)?;
        }
        Err(self.bad(&format!("more than {REDIRECTS} redirects")))
    }

    fn follow(&self, from: &Uri, location: &str) -> Result<Uri> {
        let absolute = if location.starts_with('/') && !location.starts_with("//") {
            let authority = from.authority().map(ToString::to_string).unwrap_or_default();
            format!("{}://{authority}{location}", from.scheme_str().unwrap_or("https"))
        } else {
            location.to_owned()
        };
        absolute.parse().map_err(|_| self.bad("a redirect to a URL that does not parse"))
    }

    /// Refuses whatever is neither TLS nor allowed plain HTTP to loopback.
    fn check_url(&self, uri: &Uri) -> Result<()> {
        match (uri.scheme_str(), uri.authority()) {
            (Some("https"), Some(_)) => Ok(()),
            (Some("http"), Some(authority)) if self.scheme(authority.as_str()) == "http" => Ok(()),
            // Without the query: it may hold a signature.
            _ => Err(ErrorKind::PlainHttp { url: uri.to_string().split('?').next().unwrap_or_default().into() }.into()),
        }
    }

    fn failed(&self, uri: &Uri, error: ureq::Error) -> Error {
        let registry = uri.authority().map_or_else(|| self.registry.clone(), ToString::to_string);
        match error {
            ureq::Error::Rustls(error) => ErrorKind::Tls { registry, why: error.to_string() },
            ureq::Error::Tls(why) => ErrorKind::Tls { registry, why: why.into() },
            ureq::Error::Io(error) if matches!(error.get_ref(), Some(inner) if inner.is::<rustls::Error>()) => {
                ErrorKind::Tls { registry, why: error.to_string() }
            }
            ureq::Error::Io(source) => ErrorKind::Io { what: format!("registry {registry}"), source },
            other => ErrorKind::Registry { registry, why: other.to_string() },
        }
        .into()
    }

    /// The registry does not keep to the specification.
    pub(super) fn bad(&self, why: &str) -> Error {
        let why = bundle_format::text::escaped(why);
        ErrorKind::Registry { registry: self.registry.clone(), why }.into()
    }
}

/// Whether `host[:port]` is this machine by address; names other than `localhost` are not asked.
fn is_loopback(authority: &str) -> bool {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, port)| if port.bytes().all(|b| b.is_ascii_digit()) { host } else { authority });
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The machine's certificate authorities and those of `--ca-file`.
fn roots(options: &RegistryOptions) -> Result<Vec<Certificate<'static>>> {
    let system = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<_> = system.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    if let Some(path) = &options.ca_file {
        let what = path.display().to_string();
        let pem = fs::read(path).map_err(|error| Error::io(&what, error))?;
        let before = roots.len();
        for item in parse_pem(&pem) {
            if let Ok(PemItem::Certificate(certificate)) = item {
                roots.push(certificate);
            }
        }
        if roots.len() == before {
            return Err(ErrorKind::Usage(format!("{what}: expected PEM certificates, found none")).into());
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["registry.example", "localhost.example:1", "10.0.0.1:5000", "[::2]:5000", "127.0.0.1.example"] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn plain_http_is_refused() {
        let check = |plain_http, url: &str| {
            let options = RegistryOptions { plain_http, ..RegistryOptions::default() };
            Http::open("r.example", &options).unwrap().check_url(&url.parse().unwrap())
        };
        check(PlainHttp::Refused, "https://r.example/v2/").unwrap();
        check(PlainHttp::LoopbackOnly, "http://127.0.0.1:5000/v2/").unwrap();
        for (plain_http, url) in [
            (PlainHttp::Refused, "http://127.0.0.1:5000/v2/"),
            (PlainHttp::LoopbackOnly, "http://r.example/v2/"),
            (PlainHttp::LoopbackOnly, "ftp://127.0.0.1/v2/"),
        ] {
            assert!(matches!(check(plain_http, url).unwrap_err().kind(), ErrorKind::PlainHttp { .. }), "{url}");
        }
    }
}
