//! Who sends a request: the tenant, by whose token it comes, and the client's own name below it.
//!
//! Groups, jobs and results of different tenants never meet. The judge's time is shared by tenant
//! (without tokens: by address) first, and by the clients' own names within each share.
//! Knows no requests.

use serde::{Deserialize, Serialize};

/// Client of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "WrittenClient")]
pub(crate) struct Client {
    /// Name of the request's token; empty if no token is required.
    #[serde(skip_serializing_if = "String::is_empty")]
    tenant: String,
    /// Address of the client, if no token is required.
    #[serde(skip_serializing_if = "String::is_empty")]
    address: String,
    /// The name that the client gives itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

impl Client {
    /// The client with a token of this name.
    pub(crate) fn of_tenant(tenant: &str, name: Option<&str>) -> Self {
        let (tenant, name) = (tenant.to_owned(), name.unwrap_or_default().to_owned());
        Self { tenant, address: String::new(), name }
    }

    /// A client without a token.
    pub(crate) fn of_address(address: String, name: Option<&str>) -> Self {
        Self { tenant: String::new(), address, name: name.unwrap_or_default().to_owned() }
    }

    /// The tenant; empty if no token is required.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Whose share of the judge's time the client has a part of.
    pub(crate) fn share(&self) -> &str {
        if self.tenant.is_empty() { &self.address } else { &self.tenant }
    }

    /// The client's own name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// A client as journals hold it: earlier ones have a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenClient {
    Earlier(String),
    Client {
        #[serde(default)]
        tenant: String,
        #[serde(default)]
        address: String,
        #[serde(default)]
        name: String,
    },
}

impl From<WrittenClient> for Client {
    fn from(written: WrittenClient) -> Self {
        match written {
            WrittenClient::Earlier(text) => Self::of_address(text, None),
            WrittenClient::Client { tenant, address, name } => Self { tenant, address, name },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn client_is_read_as_it_was_written_now_and_earlier() {
        let clients = [
            Client::of_tenant("alice", Some("node 1")),
            Client::of_tenant("alice", None),
            Client::of_address("10.0.0.1".to_owned(), Some("x")),
            Client::default(),
        ];
        for client in clients {
            let text = serde_json::to_string(&client).unwrap();
            assert_eq!(serde_json::from_str::<Client>(&text).unwrap(), client, "{text}");
        }
        let earlier: Client = serde_json::from_str("\"token 0 node 1\"").unwrap();
        assert_eq!((earlier.tenant(), earlier.share()), ("", "token 0 node 1"));
    }
}
