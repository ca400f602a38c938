//! Tokens, of which every request must have one, and the names of their owners.
//!
//! Knows no requests and no files.

use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _, CtOption};

/// A token and the name of the tenant that has it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken {
    /// Name of the tenant. Tokens with the same name are those of one tenant.
    name: String,
    secret: String,
}

impl BearerToken {
    /// Reads `TOKEN` or `NAME TOKEN`. Without a name, the tenant is called by a hash of the token.
    ///
    /// # Errors
    /// What is wrong, without the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [secret] => {
                let hash = blake3::hash(secret.as_bytes()).to_hex();
                Ok(Self { name: format!("token-{}", &hash[..8]), secret: secret.to_owned() })
            }
            [name, secret] => Ok(Self { name: name.to_owned(), secret: secret.to_owned() }),
            _ => Err(format!("{} words, wanted TOKEN or NAME TOKEN", words.len())),
        }
    }
}

/// Does not show the token.
impl std::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BearerToken").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Name of the tenant that has the token `given`, compared with every token in constant time.
pub(crate) fn tenant_of<'a>(tokens: &'a [BearerToken], given: &str) -> Option<&'a str> {
    let matches = tokens.iter().map(|token| token.secret.as_bytes().ct_eq(given.as_bytes()));
    let none = CtOption::new(0, Choice::from(0));
    let found = matches.enumerate().fold(none, |found, (idx, is_equal)| {
        let number = CtOption::new(idx as u64, Choice::from(1));
        CtOption::conditional_select(&found, &number, is_equal)
    });
    let idx: Option<u64> = found.into();
    idx.map(|idx| &tokens[idx as usize].name[..])
}

#[cfg(test)]
mod tests {
    use super::{BearerToken, tenant_of};

    #[test]
    fn tokens_have_the_names_of_their_lines_or_of_their_hashes() {
        let lines = ["alice s3cret", "  bob\tother ", "alice rotated", "plain"];
        let tokens: Vec<BearerToken> =
            lines.iter().map(|line| BearerToken::parse(line).unwrap()).collect();
        assert_eq!(tenant_of(&tokens, "s3cret"), Some("alice"));
        assert_eq!(tenant_of(&tokens, "rotated"), Some("alice"));
        assert_eq!(tenant_of(&tokens, "other"), Some("bob"));
        let plain = tenant_of(&tokens, "plain").unwrap();
        assert!(plain.starts_with("token-") && !plain.contains("plain"), "{plain}");
        for wrong in ["", "alice", "s3cre", "s3crett", "alice s3cret"] {
            assert_eq!(tenant_of(&tokens, wrong), None, "{wrong}");
        }
        assert!(!format!("{tokens:?}").contains("s3cret"));
        assert_eq!(BearerToken::parse("a b c").unwrap_err(), "3 words, wanted TOKEN or NAME TOKEN");
    }
}
