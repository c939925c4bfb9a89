//! Token by which a host cancels its own request.

use std::collections::HashMap;

/// Number of a request, which the host chooses at random. It travels in the metadata of the request,
/// which agents without cancellation ignore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub u64);

impl Token {
    /// Key of the metadata; the value is the number in decimal digits.
    pub const KEY: &str = "patchbay-token";

    /// Returns the token in the metadata of a request.
    #[must_use]
    pub fn of_metadata(metadata: &HashMap<String, Vec<String>>) -> Option<Self> {
        let value = metadata.get(Self::KEY)?.first()?;
        value.parse().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_of_metadata_is_its_number() {
        let metadata =
            |value: &str| HashMap::from([(Token::KEY.to_owned(), vec![value.to_owned()])]);
        let all = metadata("18446744073709551615");
        assert_eq!(Token::of_metadata(&all), Some(Token(u64::MAX)));
        for bad in ["", "-1", "18446744073709551616", "x"] {
            assert_eq!(Token::of_metadata(&metadata(bad)), None, "{bad}");
        }
        assert_eq!(Token::of_metadata(&HashMap::new()), None);
    }
}
