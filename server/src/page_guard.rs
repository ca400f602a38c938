//! Guard against web pages, for servers without tokens: a page that somebody opens in a browser
//! must not use the server that the browser can reach. Pure: knows header values, no requests.
//!
//! A browser names the page's origin in `Origin`, and the name by which it found the server in
//! `Host`. A page of another origin is refused. So is a name that a page's owner may have pointed
//! at this server (DNS rebinding): any name with a dot that is not one of the server's own. And so
//! are the content types that a page may send without the browser asking the server first, but for
//! the one of forms, which cannot hold JSON and is what `curl -d` sends.

use std::net::IpAddr;

use crate::problem::Problem;

/// Content types that a page may send to any server, and that no client of this one needs.
const PAGE_TYPES: [&str; 2] = ["text/plain", "multipart/form-data"];

/// Headers of a request that tell whether a page sent it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageHeaders<'a> {
    /// `Host`, or the authority of HTTP/2.
    pub(crate) host: Option<&'a str>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
}

/// The names under which a server is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageGuard {
    /// In lower case.
    names: Vec<String>,
}

/// The name in `HOST[:PORT]`, in lower case.
fn name_of(authority: &str) -> String {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn is_loopback(name: &str) -> bool {
    let is_address = name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    is_address || name == "localhost" || name.ends_with(".localhost")
}

impl PageGuard {
    /// `names` are the server's own; `*` stands for all names.
    pub(crate) fn new(names: &[String]) -> Self {
        Self { names: names.iter().map(|name| name_of(name)).collect() }
    }

    fn is_own(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name || own == "*")
    }

    /// # Errors
    /// [`Problem::FromPage`], [`Problem::UnsupportedType`]
    pub(crate) fn check(&self, headers: PageHeaders<'_>) -> Result<(), Problem> {
        let PageHeaders { host, origin, content_type } = headers;
        if let Some(host) = host {
            let name = name_of(host);
            // an address cannot be pointed elsewhere, and public names have a dot
            let is_safe = !name.contains('.') || name.parse::<IpAddr>().is_ok();
            if !is_safe && !is_loopback(&name) && !self.is_own(&name) {
                return Err(Problem::FromPage(format!(
                    "this server is not known as {name:?}; add the name to serve.host_names, or \
                     use tokens (serve.token_file)"
                )));
            }
        }
        if let Some(origin) = origin {
            let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
            let is_same = host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
            let name = name_of(authority);
            if !is_same && !is_loopback(&name) && !self.is_own(&name) {
                return Err(Problem::FromPage(format!(
                    "the request is one of a web page of {origin:?}; add the page's host name to \
                     serve.host_names, or use tokens (serve.token_file)"
                )));
            }
        }
        let kind = content_type.and_then(|kind| kind.split(';').next()).unwrap_or_default();
        let kind = kind.trim().to_ascii_lowercase();
        match PAGE_TYPES.contains(&&kind[..]) {
            true => Err(Problem::UnsupportedType(format!(
                "content-type is `{kind}`, as web pages may send it; wanted application/json"
            ))),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(guard: &PageGuard, host: &str, origin: &str, content_type: &str) -> u16 {
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let headers = PageHeaders {
            host: some(host),
            origin: some(origin),
            content_type: some(content_type),
        };
        guard.check(headers).map_or_else(|problem| problem.code(), |()| 200)
    }

    #[test]
    fn page_guard_refuses_other_names_origins_and_types() {
        let guard = PageGuard::new(&["Reward.example.org".to_owned()]);
        let json = "application/json";
        for (host, origin, kind, wanted) in [
            ("127.0.0.1:8000", "", json, 200),
            ("localhost:8000", "", "application/x-www-form-urlencoded", 200),
            ("LOCALHOST", "http://localhost:3000", json, 200),
            ("[::1]:8000", "http://[::1]:8000", json, 200),
            ("10.1.2.3:8000", "", "", 200),
            ("reward-server:8000", "", json, 200),
            ("reward-server:8000", "http://reward-server:8000", json, 200),
            ("reward.example.org", "https://reward.example.org", json, 200),
            ("reward.EXAMPLE.org.:443", "", json, 200),
            ("", "", json, 200),
            ("evil.example:8000", "", json, 403),
            ("evil.example:8000", "http://evil.example:8000", json, 403),
            ("localhost.evil.example", "", json, 403),
            ("127.0.0.1.evil.example", "", json, 403),
            ("127.0.0.1:8000", "https://evil.example", json, 403),
            ("127.0.0.1:8000", "https://evil.example", "", 403),
            ("127.0.0.1:8000", "null", json, 403),
            ("127.0.0.1:8000", "http://93.184.216.34", json, 403),
            ("127.0.0.1:8000", "http://notlocalhost", json, 403),
            ("10.1.2.3:8000", "http://10.1.2.3:9000", json, 403),
            ("127.0.0.1:8000", "", "text/plain", 415),
            ("127.0.0.1:8000", "", "Text/Plain; charset=utf-8", 415),
            ("127.0.0.1:8000", "", "multipart/form-data; boundary=x", 415),
        ] {
            assert_eq!(status(&guard, host, origin, kind), wanted, "{host} {origin} {kind}");
        }
        let any = PageGuard::new(&["*".to_owned()]);
        assert_eq!(status(&any, "evil.example", "http://other.example", json), 200);
    }
}
