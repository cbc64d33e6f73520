//! The command that a client of the old protocol runs on the target.

use crate::command::Simple;

/// What the target does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `-f`: files of the target are read.
    Source,
    /// `-t`: files of the target are written.
    Sink,
}

/// `scp -f` or `scp -t` with what they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScpCommand {
    /// `-f` or `-t`.
    pub direction: Direction,
    /// `-r`
    pub recursive: bool,
    /// `-p`
    pub preserve: bool,
    /// `-d`: the path of a sink has to be a folder.
    pub directory: bool,
    /// As written; one for a sink, at least one for a source.
    pub paths: Vec<String>,
}

impl ScpCommand {
    /// Recognises the command of a client. `None` is any other command, to be judged as such: other options, both
    /// directions or none, a program of another path.
    pub fn of(simple: &Simple) -> Option<Self> {
        if simple.program != "scp" || simple.stdin {
            return None;
        }
        let mut direction = None;
        let mut command = Self {
            direction: Direction::Source,
            recursive: false,
            preserve: false,
            directory: false,
            paths: Vec::new(),
        };
        let mut arguments = simple.arguments.iter();
        for argument in arguments.by_ref() {
            if argument == "--" {
                break;
            }
            let Some(flags) = argument.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
                command.paths.push(argument.clone());
                break;
            };
            for flag in flags.chars() {
                match flag {
                    'r' => command.recursive = true,
                    'p' => command.preserve = true,
                    'd' => command.directory = true,
                    'v' | 'q' => {}
                    'f' if direction.is_none() => direction = Some(Direction::Source),
                    't' if direction.is_none() => direction = Some(Direction::Sink),
                    _ => return None,
                }
            }
        }
        for argument in arguments {
            // Some systems take options behind paths as well.
            if argument.starts_with('-') && !command.paths.is_empty() {
                return None;
            }
            command.paths.push(argument.clone());
        }
        command.direction = direction?;
        let enough = match command.direction {
            Direction::Source => !command.paths.is_empty(),
            Direction::Sink => command.paths.len() == 1,
        };
        (enough && command.paths.iter().all(|path| !path.is_empty())).then_some(command)
    }

    /// The words of the command that is sent, with other paths in place of those that were written.
    pub fn words(&self, paths: &[String]) -> Vec<String> {
        let flags = [
            (self.recursive, "-r"),
            (self.preserve, "-p"),
            (self.directory, "-d"),
        ];
        let direction = match self.direction {
            Direction::Source => "-f",
            Direction::Sink => "-t",
        };
        let mut words = vec!["scp".to_owned()];
        words.extend(
            flags
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, flag)| (*flag).to_owned()),
        );
        words.extend([direction.to_owned(), "--".to_owned()]);
        words.extend(paths.iter().cloned());
        words
    }
}
