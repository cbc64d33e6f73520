//! Which ciphers are spoken.
//!
//! The first one on the client's list that the server has is taken (RFC 4253, section 7.1), and most clients name ChaCha20 first, which
//! and then AES-CTR, which cost several times as much as AES-GCM on a processor that has instructions for AES. So there those who can speak
//! AES-GCM are offered nothing else, and targets are asked for it first.

use std::borrow::Cow;

use russh::cipher::{
    AES_128_CTR, AES_128_GCM, AES_192_CTR, AES_256_CTR, AES_256_GCM, CHACHA20_POLY1305, Name,
};

use crate::wire::kexinit::KexInit;

type Names = Cow<'static, [Name]>;

const GCM: &[Name] = &[AES_128_GCM, AES_256_GCM];
const GCM_FIRST: &[Name] = &[
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    AES_256_CTR,
    AES_192_CTR,
    AES_128_CTR,
];
const CHACHA_FIRST: &[Name] = &[
    CHACHA20_POLY1305,
    AES_128_GCM,
    AES_256_GCM,
    AES_256_CTR,
    AES_192_CTR,
    AES_128_CTR,
];

/// Whether AES-GCM is faster than ChaCha20 here.
fn has_instructions() -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    return false;
}

/// What a target is asked for, the best first.
pub(crate) fn to_targets() -> Names {
    Cow::Borrowed(match has_instructions() {
        true => GCM_FIRST,
        false => CHACHA_FIRST,
    })
}

/// What a client is offered that says this of itself; `None`: it has said nothing yet.
pub(crate) fn to_client(said: Option<&KexInit<'_>>) -> Names {
    offered(has_instructions(), said)
}

fn offered(instructions: bool, said: Option<&KexInit<'_>>) -> Names {
    let gcm = said.is_some_and(|said| {
        [AES_128_GCM, AES_256_GCM]
            .iter()
            .any(|name| said.speaks(name.as_ref()))
    });
    Cow::Borrowed(match instructions && gcm {
        true => GCM,
        false => CHACHA_FIRST,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_for_those_who_speak_no_gcm_and_for_processors_without_aes() {
        let said = |ciphers: &'static [u8]| KexInit {
            ciphers_to_server: ciphers,
            ciphers_to_client: ciphers,
        };
        let both = said(b"chacha20-poly1305@openssh.com,aes128-ctr,aes256-gcm@openssh.com");
        let chacha = said(b"chacha20-poly1305@openssh.com,aes128-ctr");
        let has =
            |instructions, said: Option<&KexInit<'_>>| offered(instructions, said).contains(&AES_128_CTR);
        assert!(!has(true, Some(&both)));
        assert!(has(true, Some(&chacha)) && has(true, None) && has(false, Some(&both)));
    }
}
