//! The words of policies are those that the whole vocabulary has for SSH.

use gateway_core::policy::{SchemaPart, Vocabulary};

#[test]
fn the_vocabulary_is_the_ssh_part_of_the_whole() {
    let kept = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../gateway-core/tests/data/parts/ssh.cedarschema"
    );
    assert_eq!(proto_ssh::VOCABULARY, std::fs::read_to_string(kept).unwrap());
    let part = SchemaPart::parse("proto-ssh", proto_ssh::VOCABULARY).unwrap();
    Vocabulary::merge(vec![part]).unwrap();
}
