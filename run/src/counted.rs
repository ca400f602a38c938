//! Numbers of things in messages.

/// `1 step`, `2 steps`.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_things_are_one_or_many() {
        let texts = [0, 1, 2].map(|n| counted(n, "step"));
        assert_eq!(texts, ["0 steps", "1 step", "2 steps"]);
    }
}
