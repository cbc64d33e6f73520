//! What was typed behind `--`: options of ssh(1), then the command that the target runs.

/// The options of ssh that take a value, in the same word or in the next one.
const VALUED: &str = "BbcDEeFIiJLlmOoPpQRSWw";
/// Programs that carry files between here and a target, where they are run here.
const CARRIERS: [&str; 3] = ["scp", "sftp", "rsync"];

/// The options, with their values, and the command.
pub(super) fn options(words: &[String]) -> (&[String], &[String]) {
    let mut at = 0_usize;
    while let Some(word) = words.get(at) {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        at = at.saturating_add(1);
        // Letters may stand together (`-Nf`); the first that takes a value ends them, and what stands behind it is the value.
        let valued = letters
            .char_indices()
            .find(|(_, letter)| VALUED.contains(*letter));
        let takes_next =
            valued.is_some_and(|(place, letter)| place.saturating_add(letter.len_utf8()) == letters.len());
        if takes_next {
            at = at.saturating_add(1);
        }
    }
    words.split_at_checked(at).unwrap_or((words, &[]))
}

/// The program of a command that somebody may mean to be run here.
pub(super) fn meant_otherwise(command: &[String]) -> Option<&'static str> {
    let first = command.first()?;
    CARRIERS.into_iter().find(|carrier| *carrier == first.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn an_option_keeps_its_value_and_the_command_begins_behind_it() {
        for (options_of, command) in [
            ("", "uptime"),
            ("-t", "uptime -p"),
            ("-L 5432:10.0.0.7:5432 -N", ""),
            ("-NL 5432:10.0.0.7:5432", "uptime"),
            ("-L5432:10.0.0.7:5432", "uptime"),
            ("-oLogLevel=INFO -o BatchMode=yes -vvv", "sh -c id"),
            ("-W 10.0.0.7:22", ""),
            ("-l", ""),
        ] {
            let typed = words(&format!("{options_of} {command}"));
            let split = options(&typed);
            assert_eq!(
                (split.0, split.1),
                (words(options_of).as_slice(), words(command).as_slice())
            );
        }
    }

    #[test]
    fn programs_that_carry_files_are_told_from_others() {
        assert_eq!(meant_otherwise(&words("scp a b")), Some("scp"));
        for other in ["", "cat scp", "/usr/bin/scp -t x", "scp2"] {
            assert_eq!(meant_otherwise(&words(other)), None, "{other}");
        }
    }
}
