//! `tls-server-end-point`: the hash of a server's certificate that channel binding binds a login to.
//!
//! RFC 5929, section 4.1: the hash is that of the certificate's own signature, and SHA-256 where that is MD5 or SHA-1.
//! Only as much of the certificate is read as says which hash that is (RFC 5280, section 4.1; RFC 4055, section 3.1);
//! whether to trust it is not asked here.

use aws_lc_rs::digest::{Algorithm, SHA224, SHA256, SHA384, SHA512, digest};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The first, explicitly tagged field of RSASSA-PSS-params: the hash.
const PSS_HASH: u8 = 0xa0;

const PSS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";

/// What each signature or hash algorithm is bound with.
const HASHES: &[(&[u8], &Algorithm)] = &[
    // md5WithRSAEncryption and sha1WithRSAEncryption, ecdsa-with-SHA1, and SHA-1 itself.
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", &SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x01", &SHA256),
    (b"\x2b\x0e\x03\x02\x1a", &SHA256),
    // sha256, sha384, sha512, sha224, each WithRSAEncryption.
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", &SHA384),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", &SHA512),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0e", &SHA224),
    // ecdsa-with-SHA224, 256, 384, 512.
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", &SHA224),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", &SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", &SHA384),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", &SHA512),
    // SHA-256, 384, 512, 224 as RSASSA-PSS names them.
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x01", &SHA256),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x02", &SHA384),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x03", &SHA512),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x04", &SHA224),
];

/// The hash of a certificate (DER) for `tls-server-end-point`; `None` where there is none for its signature, as with
/// Ed25519, which has no hash of its own.
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = hash_of(certificate)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of(certificate: &[u8]) -> Option<&'static Algorithm> {
    let (fields, _) = element(certificate, SEQUENCE)?;
    let (_, fields) = element(fields, SEQUENCE)?;
    let (algorithm, _) = element(fields, SEQUENCE)?;
    let (mut name, parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    if name == PSS {
        let (parameters, _) = element(parameters, SEQUENCE)?;
        name = match element(parameters, PSS_HASH) {
            Some((hash, _)) => element(element(hash, SEQUENCE)?.0, OBJECT_IDENTIFIER)?.0,
            // The default is SHA-1.
            None => return Some(&SHA256),
        };
    }
    HASHES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, hash)| *hash)
}

/// Contents of the element of that tag at the start of `input`, and what follows it. DER: lengths are definite, and
/// certificates have no tag above 30.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, input) = input.split_first().filter(|(first, _)| **first == tag)?;
    debug_assert_eq!(*first, tag, "filtered");
    let (length, input) = input.split_first()?;
    let (length, input) = match *length {
        short @ 0..=0x7f => (usize::from(short), input),
        // A certificate of more than 16 MiB is none.
        long @ 0x81..=0x83 => {
            let (bytes, input) = input.split_at_checked(usize::from(long & 0x0f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, input)
        }
        _ => return None,
    };
    input.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// A certificate of the shape that counts, with this AlgorithmIdentifier.
    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let body = [
            &[SEQUENCE, 2, 5, 0][..],
            &wrap(SEQUENCE, algorithm),
            &[3, 2, 0, 7],
        ]
        .concat();
        wrap(SEQUENCE, &body)
    }

    fn wrap(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], body].concat()
    }

    #[test]
    fn the_hash_is_that_of_the_signature_but_never_weaker_than_sha256() {
        for (name, hash) in HASHES {
            let certificate = certificate(&[&wrap(OBJECT_IDENTIFIER, name)[..], &[5, 0]].concat());
            let expected = digest(hash, &certificate);
            assert_eq!(server_end_point(&certificate).as_deref(), Some(expected.as_ref()));
            let pss_hash = wrap(PSS_HASH, &wrap(SEQUENCE, &wrap(OBJECT_IDENTIFIER, name)));
            let pss = [wrap(OBJECT_IDENTIFIER, PSS), wrap(SEQUENCE, &pss_hash)].concat();
            bound_with(&self::certificate(&pss), hash);
        }
        let default = [wrap(OBJECT_IDENTIFIER, PSS), wrap(SEQUENCE, b"")].concat();
        bound_with(&certificate(&default), &SHA256);
    }

    fn bound_with(certificate: &[u8], hash: &'static Algorithm) {
        let expected = digest(hash, certificate);
        assert_eq!(server_end_point(certificate).as_deref(), Some(expected.as_ref()));
    }

    #[test]
    fn ed25519_and_what_is_no_certificate_have_none() {
        assert_eq!(
            server_end_point(&certificate(&wrap(OBJECT_IDENTIFIER, b"\x2b\x65\x70"))),
            None
        );
        let good = certificate(&wrap(OBJECT_IDENTIFIER, HASHES[4].0));
        // Up to where the algorithm ends every strict prefix is an error, and so is any tampered length on the way.
        for end in 0..good.len() {
            assert_eq!(server_end_point(&good[..end]), None, "{end}");
        }
        for at in [1, 2, 3, 9, 10, 11] {
            for bad in [0x80, 0x84, 0xff] {
                let mut tampered = good.clone();
                tampered[at] = bad;
                assert!(server_end_point(&tampered).is_none() || at > 8, "{at} {bad}");
            }
        }
    }

    /// Made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -sha384`; the hash with
    /// `openssl x509 -outform der | sha384sum`.
    #[test]
    fn a_real_certificate() {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("end_point_sha384.pem")).unwrap();
        let hash = server_end_point(&certificate).unwrap();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("end_point_sha384.txt").trim());
    }
}
