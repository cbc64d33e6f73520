//! Plays a script: the client, the driver and the server, in chunks and at times that a seed chooses.

use gateway_core::machine::{Question, Stage};

use super::driver::{Answer, Driver};
use super::message::short;
use super::server::Server;

/// A small generator of numbers, so that a seed tells everything.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % sides.max(1)
    }
}

/// What came of a script.
pub struct Played {
    pub driver: Driver,
    pub server: Server,
    pub to_client: Vec<u8>,
    pub to_target: Vec<u8>,
}

impl Played {
    pub fn short(&self) -> String {
        short(&self.to_client)
    }

    /// Nothing ran that policy has not let run, as often as it has, and nothing forbidden was touched.
    pub fn assert_all_was_allowed(&self) {
        self.assert_all_was_allowed_by(|table| !matches!(table, "public.secret2" | "public.x2"));
    }

    pub fn assert_all_was_allowed_by(&self, may: impl Fn(&str) -> bool) {
        let runs = || {
            self.driver
                .asked
                .iter()
                .filter(|asked| asked.runs && asked.stage == Stage::Run)
        };
        let mut allowed: Vec<&str> = runs().map(|asked| asked.text.trim()).collect();
        for ran in &self.server.ran {
            let at = allowed.iter().position(|text| *text == ran.trim());
            assert!(
                at.is_some(),
                "`{ran}` ran without a verdict\n{:#?}",
                self.driver.asked
            );
            allowed.swap_remove(at.unwrap());
        }
        for table in &self.server.touched {
            assert!(may(table), "{table} was touched: {:#?}", self.server.ran);
            let name = table.split('.').next_back().unwrap();
            let named = runs().any(|asked| asked.operations.iter().any(|o| o.contains(name)));
            assert!(
                named,
                "{table} was touched, and policy did not know: {:#?}",
                self.driver.asked
            );
        }
    }
}

/// The policy of the tests, by what is touched.
pub fn by_table(_: &Question, operations: &[String]) -> Answer {
    let any = |what: &str| operations.iter().any(|operation| operation.contains(what));
    if any("secret2") || any("public.x2") || any("unknown ") {
        Answer::Deny
    } else if any("held3") {
        Answer::Hold(2, true)
    } else if any("budget5") {
        Answer::Rows(2)
    } else if any("t5") {
        Answer::Later(1)
    } else {
        Answer::Run
    }
}

/// All may run.
pub fn all(_: &Question, _: &[String]) -> Answer {
    Answer::Run
}

/// What a script's bare server says.
pub fn bare(script: &[u8]) -> (Server, Vec<u8>) {
    let mut server = Server::default();
    server.take(script);
    let output = server.output.split().to_vec();
    (server, output)
}

/// A session and its server, of which nothing has been asked.
pub fn driver(policy: impl FnMut(&Question, &[String]) -> Answer + 'static) -> (Driver, Server) {
    let server = Server::default();
    (Driver::new(server.catalog(), Box::new(policy)), server)
}

/// Plays it whole: each side does all it can before the next one.
pub fn whole(script: &[u8], policy: impl FnMut(&Question, &[String]) -> Answer + 'static) -> Played {
    play(script, policy, None)
}

/// Plays it in chunks. Without dice everything goes in one piece.
pub fn play(
    script: &[u8],
    policy: impl FnMut(&Question, &[String]) -> Answer + 'static,
    mut dice: Option<Dice>,
) -> Played {
    let (mut driver, mut server) = driver(policy);
    let (mut script, mut to_client, mut to_target) = (script, Vec::new(), Vec::new());
    let mut waiting = bytes::BytesMut::new();
    for step in 0.. {
        assert!(step < 100_000, "it goes round in circles");
        waiting.extend_from_slice(&driver.out.to_target.split());
        to_client.extend_from_slice(&driver.out.to_client.split());
        let possible = [
            !script.is_empty(),
            !waiting.is_empty(),
            !server.output.is_empty(),
            driver.is_judging(),
        ];
        if driver.end.is_some() || !possible.contains(&true) {
            break;
        }
        let mut choice = dice.as_mut().map_or(0, |dice| dice.roll(4));
        while !possible[choice] {
            choice = (choice + 1) % 4;
        }
        let mut some = |len: usize| match dice.as_mut() {
            None => len,
            Some(dice) => {
                let all = dice.roll(3) == 0;
                if all { len } else { 1 + dice.roll(len.min(40)) }
            }
        };
        match choice {
            0 => {
                let (now, later) = script.split_at(some(script.len()));
                driver.from_client.extend_from_slice(now);
                script = later;
            }
            1 => {
                let bytes = waiting.split_to(some(waiting.len()));
                to_target.extend_from_slice(&bytes);
                server.take(&bytes);
                driver.catalog = server.catalog();
            }
            2 => {
                let bytes = server.output.split_to(some(server.output.len()));
                driver.from_target.extend_from_slice(&bytes);
            }
            _ => driver.tick(),
        }
        driver.pump();
    }
    Played {
        driver,
        server,
        to_client,
        to_target,
    }
}
