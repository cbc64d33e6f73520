//! SSH's transport (RFC 4253) for either side, with one algorithm of each kind: enough for a peer that wants to send any
//! message to the gateway, also those that no library would send.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::wire::{Message, Take, number};

const ID: &str = "SSH-2.0-pipe";
/// Longest packet that is read.
const PACKET: usize = 256 << 10;

/// Which side it is.
pub enum Role {
    Client,
    /// With its host key.
    Target(Arc<Ed25519KeyPair>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Id,
    Init,
    Exchange,
    NewKeys,
    Open,
    Broken,
}

struct Cipher {
    key: LessSafeKey,
    iv: [u8; 12],
}

impl Cipher {
    /// The counter in the last eight bytes goes on with each packet (RFC 5647, section 7.1).
    fn nonce(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.iv);
        let (_, counter) = self.iv.split_last_chunk_mut::<8>().unwrap();
        *counter = u64::from_be_bytes(*counter).wrapping_add(1).to_be_bytes();
        nonce
    }
}

/// One end of a connection.
pub struct Transport {
    role: Role,
    state: State,
    inbound: Vec<u8>,
    /// What is to be sent.
    pub out: Vec<u8>,
    seal: Option<Cipher>,
    open: Option<Cipher>,
    /// The same for the time behind `NEWKEYS` of the other side.
    next: Option<Cipher>,
    ours: Vec<u8>,
    theirs: (Vec<u8>, Vec<u8>),
    ephemeral: Option<EphemeralPrivateKey>,
    /// The hash of the first exchange.
    session: Option<Vec<u8>>,
    /// It answers nothing by itself, and its packets are in the clear.
    silent: bool,
}

impl Transport {
    pub fn new(role: Role, silent: bool) -> Self {
        let mut transport = Self {
            role,
            state: State::Id,
            inbound: Vec::new(),
            out: Vec::new(),
            seal: None,
            open: None,
            next: None,
            ours: init(),
            theirs: (Vec::new(), Vec::new()),
            ephemeral: None,
            session: None,
            silent,
        };
        if !silent {
            transport.out.extend(format!("{ID}\r\n").into_bytes());
            let ours = transport.ours.clone();
            transport.send(&ours);
        }
        transport
    }

    /// Whether what is sent is encrypted.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Frames a message, and encrypts it where that is agreed.
    pub fn send(&mut self, payload: &[u8]) {
        // Whoever sends this begins an exchange anew.
        if self.state == State::Open && payload.first() == Some(&number::KEXINIT) {
            self.ours = payload.to_vec();
            self.state = State::Init;
        }
        let sealed = self.seal.is_some();
        let block = if sealed { 16 } else { 8 };
        let counted = payload.len() + 1 + if sealed { 0 } else { 4 };
        let mut padding = block - counted % block;
        if padding < 4 {
            padding += block;
        }
        let length = u32::try_from(payload.len() + 1 + padding).unwrap().to_be_bytes();
        let mut body = vec![u8::try_from(padding).unwrap()];
        body.extend_from_slice(payload);
        body.resize(body.len() + padding, 0);
        self.out.extend(length);
        if let Some(cipher) = &mut self.seal {
            let nonce = cipher.nonce();
            cipher
                .key
                .seal_in_place_append_tag(nonce, Aad::from(length), &mut body)
                .unwrap();
        }
        self.out.extend(body);
    }

    /// Takes what came; gives the messages behind the key exchange.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        if self.silent || self.state == State::Broken {
            return messages;
        }
        self.inbound.extend_from_slice(bytes);
        if self.state == State::Id {
            let Some(end) = self.inbound.iter().position(|byte| *byte == b'\n') else {
                return messages;
            };
            let line: Vec<u8> = self.inbound.drain(..=end).collect();
            self.theirs.0 = line.trim_ascii_end().to_vec();
            self.state = State::Init;
        }
        while let Some(payload) = self.packet() {
            if self.exchange(&payload).is_none() {
                messages.push(payload);
            }
        }
        messages
    }

    fn packet(&mut self) -> Option<Vec<u8>> {
        let head = *self.inbound.first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(head)).unwrap();
        assert!(length <= PACKET, "the gateway sends a packet of {length} bytes");
        let all = 4 + length + if self.open.is_some() { 16 } else { 0 };
        if self.inbound.len() < all {
            return None;
        }
        let mut packet: Vec<u8> = self.inbound.drain(..all).skip(4).collect();
        if let Some(cipher) = &mut self.open {
            let nonce = cipher.nonce();
            let opened = cipher.key.open_in_place(nonce, Aad::from(head), &mut packet);
            opened.expect("the gateway's packets are whole");
            packet.truncate(length);
        }
        let padding = usize::from(*packet.first()?);
        packet.truncate(packet.len().checked_sub(padding)?);
        packet.remove(0);
        Some(packet)
    }

    /// A step of the key exchange; none: the message is no part of it.
    fn exchange(&mut self, payload: &[u8]) -> Option<()> {
        let mut take = Take(payload);
        let number = take.byte()?;
        if (self.state, number) == (State::Open, number::KEXINIT) {
            self.send(&init());
        }
        match (self.state, number) {
            (State::Init, number::KEXINIT) => {
                self.theirs.1 = payload.to_vec();
                self.state = State::Exchange;
                if matches!(self.role, Role::Client) {
                    let public = self.ephemeral();
                    self.send(&Message::new(number::ECDH_INIT).string(public).done());
                }
            }
            (State::Exchange, number::ECDH_INIT) => {
                let theirs = take.string()?.to_vec();
                let Role::Target(key) = &self.role else {
                    return None;
                };
                let (key, blob) = (key.clone(), key_blob(key));
                let public = self.ephemeral();
                let (shared, hash) = self.agree(&theirs, &blob, &theirs, &public)?;
                let signature = Message(Vec::new())
                    .string("ssh-ed25519")
                    .string(key.sign(&hash))
                    .done();
                let reply = Message::new(number::ECDH_REPLY)
                    .string(&blob)
                    .string(&public)
                    .string(signature);
                self.send(&reply.done());
                self.send(&[number::NEWKEYS]);
                self.keys(&shared, &hash);
            }
            (State::Exchange, number::ECDH_REPLY) => {
                let (blob, theirs) = (take.string()?.to_vec(), take.string()?.to_vec());
                let public = self.ephemeral.as_ref()?.compute_public_key().ok()?;
                let (shared, hash) = self.agree(&theirs, &blob, public.as_ref(), &theirs)?;
                self.send(&[number::NEWKEYS]);
                self.keys(&shared, &hash);
            }
            (State::NewKeys, number::NEWKEYS) => {
                self.open = self.next.take();
                self.state = State::Open;
            }
            _ => return None,
        }
        Some(())
    }

    fn ephemeral(&mut self) -> Vec<u8> {
        let key = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let public = key.compute_public_key().unwrap().as_ref().to_vec();
        self.ephemeral = Some(key);
        public
    }

    /// The shared secret as it is hashed, and the exchange hash (RFC 5656, section 4).
    fn agree(
        &mut self,
        peer: &[u8],
        blob: &[u8],
        client: &[u8],
        server: &[u8],
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let key = self.ephemeral.take()?;
        let secret = agree_ephemeral(key, UnparsedPublicKey::new(&X25519, peer), (), |secret| {
            Ok(secret.to_vec())
        });
        let mut secret = secret.ok()?;
        let zeros = secret.iter().take_while(|byte| **byte == 0).count();
        secret.drain(..zeros);
        if secret.first().is_some_and(|byte| *byte >= 0x80) {
            secret.insert(0, 0);
        }
        let shared = Message(Vec::new()).string(secret).done();
        let (id, init) = (ID.as_bytes().to_vec(), self.ours.clone());
        let (their_id, their_init) = self.theirs.clone();
        let ids = match self.role {
            Role::Client => [id, their_id, init, their_init],
            Role::Target(_) => [their_id, id, their_init, init],
        };
        let mut hashed = Message(Vec::new());
        for part in ids {
            hashed = hashed.string(part);
        }
        let mut hashed = hashed.string(blob).string(client).string(server).done();
        hashed.extend(&shared);
        Some((shared, hash(&[&hashed])))
    }

    fn keys(&mut self, shared: &[u8], exchange: &[u8]) {
        let session = self.session.get_or_insert_with(|| exchange.to_vec()).clone();
        let derive = |letter: u8| hash(&[shared, exchange, &[letter], &session]);
        let cipher = |iv: u8, key: u8| Cipher {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derive(key)).unwrap()),
            iv: *derive(iv).first_chunk::<12>().unwrap(),
        };
        let (up, down) = (cipher(b'A', b'C'), cipher(b'B', b'D'));
        let (seal, open) = match self.role {
            Role::Client => (up, down),
            Role::Target(_) => (down, up),
        };
        self.seal = Some(seal);
        self.next = Some(open);
        self.state = State::NewKeys;
    }
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

/// A host key as SSH writes it.
pub fn key_blob(key: &Ed25519KeyPair) -> Vec<u8> {
    let blob = Message(Vec::new()).string("ssh-ed25519");
    blob.string(key.public_key()).done()
}

/// What is offered in a key exchange.
pub fn init() -> Vec<u8> {
    let mut init = Message::new(number::KEXINIT);
    // The cookie: the gateway's own is what makes an exchange unlike all others.
    init.0.extend([0; 16]);
    let strict = "curve25519-sha256,kex-strict-c-v00@openssh.com,kex-strict-s-v00@openssh.com";
    let cipher = "aes256-gcm@openssh.com";
    let mac = "hmac-sha2-256";
    for names in [
        strict,
        "ssh-ed25519",
        cipher,
        cipher,
        mac,
        mac,
        "none",
        "none",
        "",
        "",
    ] {
        init = init.string(names);
    }
    init.byte(0).u32(0).done()
}
