//! Every interleaving of people, clients, the clock and crashes, on the transitions and a swap that one of two wins; on one
//! gateway, and on two that share a store and of which one is lost.
//!
//! Each actor takes two steps to change an approval, as the gateway does: it reads, and it swaps. Between the two any
//! other may act. All reachable states are visited; in each the promises must hold.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use jiff::Timestamp;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const DEADLINE: i64 = 10;

fn person(subject: &str, groups: &[&str]) -> Authenticated {
    let mut principal = Principal::new(subject, PrincipalKind::Human);
    principal.groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Authenticated {
        principal: std::sync::Arc::new(principal),
        credential_id: format!("tok-{subject}"),
        expires: None,
        resources: None,
    }
}

fn opened(groups: &[&str], approvers: u32) -> Approval {
    Approval {
        id: "apr_1".to_owned(),
        digest: "d".to_owned(),
        state: ApprovalState::Open,
        principal: Principal::new("ann@x.test", PrincipalKind::Human),
        resource: "db".to_owned(),
        operation: "write t".to_owned(),
        asked: Vec::new(),
        statement: None,
        parameters: Vec::new(),
        stands_for: Vec::new(),
        reason: None,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        approvers,
        rules: Vec::new(),
        policy: "v1".to_owned(),
        session: SessionId(uuid::Uuid::nil()),
        created: at(0),
        expires: at(DEADLINE),
        votes: Vec::new(),
        used_by: None,
        note: None,
        estimate: None,
        grant: None,
    }
}

/// Where one client's copy of the operation is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Copy {
    /// Not sent, or sent and over.
    Away,
    /// The client waits.
    Waits,
    /// It is woken or has just come, and has read the approved one with this revision.
    Read(usize, u32),
    /// It has claimed that one; nothing is forwarded yet.
    Claimed(usize),
}

/// What somebody has read and is about to change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hand {
    place: usize,
    revision: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    late: bool,
    revoked: bool,
    /// Approvals, by their place among all that were ever met, and their revisions.
    kept: Vec<(usize, u32)>,
    copies: [Copy; 2],
    hands: [Option<Hand>; 2],
    /// How often each approval was forwarded.
    ran: Vec<u32>,
    /// Claimed ones that were cut off by a crash.
    cut: Vec<u32>,
    crashes: u8,
    sends: u8,
}

/// Approvals, and their places by what they say.
type Met = (Vec<Rc<Approval>>, HashMap<String, usize>);

thread_local! {
    /// Few different approvals are met in very many states.
    static MET: RefCell<Met> = RefCell::default();
}

fn intern(approval: &Approval) -> usize {
    MET.with_borrow_mut(|(all, places)| {
        let text = serde_json::to_string(approval).unwrap();
        *places.entry(text).or_insert_with(|| {
            all.push(Rc::new(approval.clone()));
            all.len() - 1
        })
    })
}

/// Who acts.
const APPROVER: usize = 0;
const DENIER: usize = 1;
const SWEEPER: usize = 2;

impl World {
    fn now(&self) -> Timestamp {
        at(if self.late { DEADLINE + 1 } else { 1 })
    }

    fn approval(&self, place: usize) -> Rc<Approval> {
        MET.with_borrow(|(all, _)| all[self.kept[place].0].clone())
    }

    /// The swap: one of two that have read the same wins.
    fn swap(&mut self, place: usize, revision: u32, next: &Approval) -> bool {
        let live = self.live().is_some_and(|other| other != place);
        if self.kept[place].1 != revision || next.state.is_live() && live {
            return false;
        }
        self.kept[place] = (intern(next), revision + 1);
        true
    }

    fn live(&self) -> Option<usize> {
        (0..self.kept.len()).find(|place| self.approval(*place).state.is_live())
    }

    /// What follows from here.
    fn next(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            all.push(world);
        };
        if !self.late {
            push(&|w| w.late = true);
        }
        if !self.revoked {
            push(&|w| w.revoked = true);
        }
        if self.crashes < 1 {
            // The gateway, with all that it does; or one of two that share a store, with what is done on it, while the
            // other goes on with the same approvals.
            push(&|w| w.crash(&[0, 1]));
            for node in 0..2 {
                push(&|w| w.crash(&[node]));
            }
        }
        // The sweep races like any other swap; what it reads and what it finds differ in no new way.
        if self.late {
            for (place, (_, revision)) in self.kept.iter().enumerate() {
                push(&|w| w.act(SWEEPER, place, *revision));
            }
        }
        for hand in [APPROVER, DENIER] {
            match &self.hands[hand] {
                None => {
                    for place in 0..self.kept.len() {
                        if self.approval(place).state.is_live() {
                            let revision = self.kept[place].1;
                            push(&|w| w.hands[hand] = Some(Hand { place, revision }));
                        }
                    }
                }
                Some(Hand { place, revision }) => push(&|w| w.act(hand, *place, *revision)),
            }
        }
        for copy in 0..2 {
            match &self.copies[copy] {
                Copy::Away if self.sends < 3 => push(&|w| {
                    w.sends += 1;
                    w.arrive(copy);
                }),
                Copy::Away => {}
                Copy::Waits => {
                    // Woken, also for nothing; or it leaves: window over, cancel, disconnect.
                    push(&|w| w.arrive(copy));
                    push(&|w| w.copies[copy] = Copy::Away);
                }
                Copy::Read(place, revision) => {
                    push(&|w| w.claim(copy, *place, *revision));
                    push(&|w| w.copies[copy] = Copy::Away);
                }
                Copy::Claimed(place) => {
                    push(&|w| {
                        w.ran[*place] += 1;
                        w.copies[copy] = Copy::Away;
                    });
                    // The client has gone in this moment: the claim is given back.
                    push(&|w| {
                        let revision = w.kept[*place].1;
                        let next = w.approval(*place).release(&copy.to_string()).unwrap();
                        // Where the other copy has opened another one by now, this one stays used up.
                        if !w.swap(*place, revision, &next) {
                            w.cut[*place] += 1;
                        }
                        w.copies[copy] = Copy::Away;
                    });
                }
            }
        }
        all
    }

    /// These nodes are gone. Each has one copy of the operation and one person's hand.
    fn crash(&mut self, nodes: &[usize]) {
        self.crashes += 1;
        for node in nodes {
            self.hands[*node] = None;
            if let Copy::Claimed(place) = self.copies[*node] {
                self.cut[place] += 1;
            }
            self.copies[*node] = Copy::Away;
        }
    }

    fn act(&mut self, hand: usize, place: usize, revision: u32) {
        if let Some(hand) = self.hands.get_mut(hand) {
            *hand = None;
        }
        let (read, now) = (self.approval(place), self.now());
        let next = match hand {
            APPROVER => read
                .decide(&person("dan@x.test", &["dba"]), Choice::Approve, None, now)
                .ok(),
            DENIER => read
                .decide(&person("eve@x.test", &["dba"]), Choice::Deny, None, now)
                .ok(),
            _ => read.expire(now),
        };
        // Where somebody was faster the read one is not what is kept, and the swap fails.
        if let Some(next) = next {
            self.swap(place, revision, &next);
        }
    }

    fn arrive(&mut self, copy: usize) {
        let Some(place) = self.live() else {
            if self.late || self.kept.len() >= 2 {
                // What is opened late has a deadline of its own, and a third one is no other case than a second.
                self.copies[copy] = Copy::Away;
                return;
            }
            self.kept.push((intern(&opened(&["dba"], 1)), 0));
            self.ran.push(0);
            self.cut.push(0);
            self.copies[copy] = Copy::Waits;
            return;
        };
        let found = self.approval(place);
        self.copies[copy] = match found.state_at(self.now()) {
            ApprovalState::Approved => Copy::Read(place, self.kept[place].1),
            ApprovalState::Open => Copy::Waits,
            _ => Copy::Away,
        };
    }

    fn claim(&mut self, copy: usize, place: usize, revision: u32) {
        let valid = |_: &ApprovalVote| !self.revoked;
        // What was read is what is kept where the swap works.
        let next = self.approval(place).claim(&copy.to_string(), self.now(), valid);
        let won = next.is_some_and(|next| {
            let used = next.state == ApprovalState::Used;
            self.swap(place, revision, &next) && used
        });
        self.copies[copy] = if won { Copy::Claimed(place) } else { Copy::Away };
    }

    /// What must hold in every state.
    fn promises(&self) {
        let live = (0..self.kept.len())
            .filter(|p| self.approval(*p).state.is_live())
            .count();
        assert!(live <= 1, "one operation has two live approvals");
        for place in 0..self.kept.len() {
            let approval = self.approval(place);
            let claims = self
                .copies
                .iter()
                .filter(|copy| **copy == Copy::Claimed(place))
                .count();
            let claims = u32::try_from(claims).unwrap();
            let (ran, cut) = (self.ran[place], self.cut[place]);
            assert!(ran + cut + claims <= 1, "it runs twice: {self:?}");
            let used = approval.state == ApprovalState::Used;
            assert_eq!(
                used,
                ran + cut + claims == 1,
                "used without a run, or run without a use: {self:?}"
            );
            if used {
                assert!(approval.is_carried(|_| true), "it ran unapproved: {self:?}");
            }
            if approval.state == ApprovalState::Approved {
                assert!(approval.is_carried(|_| true) && ran == 0);
            }
            if approval.votes.iter().any(|vote| vote.choice == Choice::Deny) {
                assert!(
                    approval.state == ApprovalState::Denied && ran == 0,
                    "it ran though denied"
                );
            }
        }
    }
}

#[test]
fn never_run_twice_never_unapproved_never_lost() {
    let start = World {
        late: false,
        revoked: false,
        kept: Vec::new(),
        copies: [Copy::Away, Copy::Away],
        hands: [None, None],
        ran: Vec::new(),
        cut: Vec::new(),
        crashes: 0,
        sends: 0,
    };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    let (mut ended, mut runs) = (BTreeSet::new(), 0_usize);
    while let Some(world) = open.pop() {
        world.promises();
        runs += usize::from(world.ran.contains(&1));
        for place in 0..world.kept.len() {
            ended.insert(world.approval(place).state);
        }
        for next in world.next() {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    // The walk went everywhere: all states were met, and things ran.
    assert_eq!(ended.len(), 5, "{ended:?}");
    assert!(runs > 100 && seen.len() > 10_000, "{runs} of {}", seen.len());
}

#[test]
fn nobody_decides_what_was_asked_for_oneself() {
    let mut approval = opened(&["dba"], 1);
    approval.principal.on_behalf_of = Some("Boss@x.test".to_owned());
    let decide = |who: &Authenticated| {
        approval
            .decide(who, Choice::Approve, None, at(1))
            .map(|next| next.state)
    };
    assert_eq!(
        decide(&person("ann@x.test", &["dba"])),
        Err(CannotDecide::Requester)
    );
    assert_eq!(
        decide(&person("ANN@x.test", &["dba"])),
        Err(CannotDecide::Requester)
    );
    assert_eq!(
        decide(&person("boss@x.test", &["dba"])),
        Err(CannotDecide::Requester)
    );
    // Nor through somebody who acts for one of them.
    let mut proxy = Principal::clone(&person("zoe@x.test", &["dba"]).principal);
    proxy.on_behalf_of = Some("ann@x.test".to_owned());
    let proxy = Authenticated {
        principal: std::sync::Arc::new(proxy),
        ..person("zoe@x.test", &["dba"])
    };
    assert_eq!(decide(&proxy), Err(CannotDecide::Requester));
    assert!(matches!(
        decide(&person("zoe@x.test", &["other"])),
        Err(CannotDecide::NotInGroup(_))
    ));
    assert_eq!(
        decide(&person("zoe@x.test", &["dba"])),
        Ok(ApprovalState::Approved)
    );
}

#[test]
fn agents_and_tokens_for_other_resources_decide_nothing() {
    let approval = opened(&["dba"], 1);
    let mut bot = person("bot", &["dba"]);
    let mut principal = Principal::clone(&bot.principal);
    principal.kind = PrincipalKind::Agent;
    bot.principal = std::sync::Arc::new(principal);
    let said = approval.decide(&bot, Choice::Approve, None, at(1));
    assert!(matches!(said, Err(CannotDecide::NoPerson("agent"))));
    let mut other = person("dan@x.test", &["dba"]);
    other.resources = Some(BTreeSet::from(["web-1".to_owned()]));
    let said = approval.decide(&other, Choice::Deny, None, at(1));
    assert!(matches!(said, Err(CannotDecide::OtherResource(_))));
    assert!(!approval.is_visible_to(&other));
}

fn after(approval: &Approval, voters: &[(&str, &[&str])]) -> ApprovalState {
    voters
        .iter()
        .fold(approval.clone(), |approval, (name, groups)| {
            approval
                .decide(&person(name, groups), Choice::Approve, None, at(1))
                .unwrap()
        })
        .state
}

#[test]
fn two_groups_held_by_one_person_count_once() {
    let both = opened(&["dba", "security"], 1);
    let (a, b, two): (&[&str], &[&str], &[&str]) = (&["dba"], &["security"], &["dba", "security"]);
    assert_eq!(after(&both, &[("dan", two)]), ApprovalState::Open);
    assert_eq!(after(&both, &[("dan", two), ("eve", b)]), ApprovalState::Approved);
    // In whatever order: who is in both stands for the group that nobody else stands for.
    assert_eq!(after(&both, &[("dan", two), ("fay", a)]), ApprovalState::Approved);
    assert_eq!(after(&both, &[("eve", a), ("fay", a)]), ApprovalState::Open);
}

#[test]
fn letters_of_any_case_name_one_person() {
    for (one, other, same) in [
        ("Dan@x.test", "dan@X.test ", true),
        ("stra\u{df}e@x.test", "STRASSE@x.test", true),
        ("jos\u{e9}", "jose\u{301}", true),
        ("dan@x.test", "dana@x.test", false),
    ] {
        assert_eq!(is_same_person(one, other), same, "{one} {other}");
    }
}

#[test]
fn several_approvers_are_several_people() {
    let two = opened(&["dba"], 2);
    let dba: &[&str] = &["dba"];
    assert_eq!(after(&two, &[("dan", dba)]), ApprovalState::Open);
    assert_eq!(
        after(&two, &[("dan", dba), ("eve", dba)]),
        ApprovalState::Approved
    );
    let once = two
        .decide(&person("dan", dba), Choice::Approve, None, at(1))
        .unwrap();
    let said = once.decide(&person("dan", dba), Choice::Approve, None, at(2));
    assert_eq!(said, Err(CannotDecide::Again));
    // By another token the same person says it anew: still one person, however the name is written.
    let anew = once
        .decide(&person("Dan", dba), Choice::Approve, None, at(2))
        .unwrap();
    assert_eq!((anew.state, anew.votes.len()), (ApprovalState::Open, 1));
    assert_eq!(anew.votes[0].credential, "tok-Dan");
    // Who acts for somebody and that person are one, and so are two who act for the same one.
    let mut acting = person("hal", dba);
    acting.principal = std::sync::Arc::new(Principal {
        on_behalf_of: Some("DAN".to_owned()),
        ..(*acting.principal).clone()
    });
    let both = once.decide(&acting, Choice::Approve, None, at(2)).unwrap();
    assert_eq!((both.state, both.votes.len()), (ApprovalState::Open, 1));
    let mut other = acting.clone();
    other.credential_id = "tok-ida".to_owned();
    other.principal = std::sync::Arc::new(Principal {
        subject: "ida".to_owned(),
        ..(*acting.principal).clone()
    });
    let again = both.decide(&other, Choice::Approve, None, at(3)).unwrap();
    assert_eq!((again.state, again.votes.len()), (ApprovalState::Open, 1));
    let third = again
        .decide(&person("eve", dba), Choice::Approve, None, at(4))
        .unwrap();
    assert_eq!(third.state, ApprovalState::Approved);
    // Who has approved can still stop it.
    let stopped = once
        .decide(&person("dan", dba), Choice::Deny, None, at(2))
        .unwrap();
    assert_eq!(stopped.state, ApprovalState::Denied);
    // Two of each of two groups are four people.
    let four = opened(&["dba", "security"], 2);
    let both: &[&str] = &["dba", "security"];
    assert_eq!(
        after(&four, &[("a", both), ("b", both), ("c", both)]),
        ApprovalState::Open
    );
    assert_eq!(
        after(&four, &[("a", both), ("b", both), ("c", both), ("d", dba)]),
        ApprovalState::Approved
    );
}

#[test]
fn no_group_is_no_approval() {
    assert!(!opened(&[], 1).is_carried(|_| true));
    assert!(
        !opened(&["dba"], 0).is_carried(|_| true),
        "nobody asked is somebody asked"
    );
    assert!(!opened(&["dba"], u32::MAX).is_carried(|_| true));
}

#[test]
fn the_deadline_is_for_deciding_and_for_running() {
    let dan = person("dan", &["dba"]);
    let open = opened(&["dba"], 1);
    let late = open.decide(&dan, Choice::Approve, None, at(DEADLINE));
    assert_eq!(late, Err(CannotDecide::Over(ApprovalState::Expired)));
    let approved = open
        .decide(&dan, Choice::Approve, None, at(DEADLINE - 1))
        .unwrap();
    assert!(approved.claim("s/1", at(DEADLINE), |_| true).is_none());
    assert_eq!(
        approved.expire(at(DEADLINE)).unwrap().state,
        ApprovalState::Expired
    );
    assert!(approved.expire(at(DEADLINE - 1)).is_none());
    let used = approved.claim("s/1", at(DEADLINE - 1), |_| true).unwrap();
    assert!(used.expire(at(DEADLINE)).is_none(), "what ran stays");
    assert!(used.release("s/2").is_none(), "only who claimed it gives it back");
}

#[test]
fn an_approver_whose_token_has_ended_counts_no_more() {
    let approved = opened(&["dba"], 1)
        .decide(&person("dan", &["dba"]), Choice::Approve, None, at(1))
        .unwrap();
    let ended = approved
        .claim("s/1", at(2), |vote| vote.credential != "tok-dan")
        .unwrap();
    assert_eq!((ended.state, ended.used_by), (ApprovalState::Expired, None));
    assert!(ended.note.is_some());
}
