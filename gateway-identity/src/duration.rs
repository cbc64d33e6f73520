//! Durations as users write them.

use std::time::Duration;

/// What was given is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration; write a whole number and a unit, such as 90s, 30m, 1h or 7d")]
pub struct DurationError(String);

/// Reads `90s`, `30m`, `1h`, `7d`: a whole number and one unit.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError(text.chars().take(64).flat_map(char::escape_debug).collect());
    let mut digits = text.chars();
    let seconds: u64 = match digits.next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let digits = digits.as_str();
    // `parse` alone would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1800),
            ("1h", 3600),
            ("7d", 604_800),
            ("0s", 0),
            ("007m", 420),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_says_what_to_write() {
        let huge = format!("{}d", u64::MAX);
        for text in [
            "", "s", "5", "5x", "-5m", "+5m", "5 m", " 5m", "1.5h", "1h30m", "5M", "５m", "5mé", &huge,
        ] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains("30m"), "{error}");
        }
        assert!(
            !parse_duration("\u{1b}[31m")
                .unwrap_err()
                .to_string()
                .contains('\u{1b}')
        );
        assert!(parse_duration(&"9".repeat(10_000)).unwrap_err().to_string().len() < 200);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}
