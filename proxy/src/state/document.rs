//! The text form of what is stored: one JSON object that proves by its checksum that it is whole.
//!
//! The checksum is SHA-256 over the body's bytes exactly as they stand in the file, so no second encoder has to agree.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{StoreError, Stored};
use crate::digest::hex;

/// The form that this version writes. A form that cannot be read by an older version gets the next number.
pub(crate) const SCHEMA: u64 = 1;

/// The outermost object. Its order is the file's: what a person looks for first comes first.
#[derive(Serialize, Deserialize)]
struct Envelope {
    schema: u64,
    generation: u64,
    checksum: String,
    body: Box<RawValue>,
}

/// The only field that every schema has.
#[derive(Deserialize)]
struct SchemaOnly {
    schema: u64,
}

/// What a text turned out to be.
#[derive(Debug)]
pub(crate) enum Decoded<T = Stored> {
    /// Whole.
    Whole(Box<T>),
    /// Of a later version: not to be guessed at.
    Newer(u64),
    /// Not whole, and why.
    Damaged(String),
}

/// The text form of what is to be stored.
pub(super) fn encode(stored: &Stored) -> Result<Vec<u8>, StoreError> {
    seal(stored.saved.generation.0, stored)
}

/// Reads a text form. Whatever the bytes are, the answer is one of [`Decoded`].
pub(super) fn decode(text: &[u8]) -> Decoded {
    unseal(text)
}

/// The text form of a body that belongs to a generation.
pub(crate) fn seal<T: Serialize>(generation: u64, body: &T) -> Result<Vec<u8>, StoreError> {
    let bad = |error: serde_json::Error| StoreError::Encode(error.to_string());
    let body = serde_json::value::to_raw_value(body).map_err(bad)?;
    let checksum = checksum(generation, &body);
    let mut text = serde_json::to_vec(&Envelope { schema: SCHEMA, generation, checksum, body }).map_err(bad)?;
    text.push(b'\n');
    Ok(text)
}

/// Reads the text form of a body.
pub(crate) fn unseal<T: DeserializeOwned>(text: &[u8]) -> Decoded<T> {
    match serde_json::from_slice::<SchemaOnly>(text) {
        Ok(SchemaOnly { schema }) if schema > SCHEMA => return Decoded::Newer(schema),
        Ok(_) => {}
        Err(error) => return Decoded::Damaged(format!("it is not complete JSON: {error}")),
    }
    let envelope: Envelope = match serde_json::from_slice(text) {
        Ok(envelope) => envelope,
        Err(error) => return Decoded::Damaged(format!("it is not a state file: {error}")),
    };
    if envelope.schema != SCHEMA {
        return Decoded::Damaged(format!("schema {} was never written", envelope.schema));
    }
    if envelope.checksum != checksum(envelope.generation, &envelope.body) {
        return Decoded::Damaged("its checksum does not fit its content".into());
    }
    match serde_json::from_str::<T>(envelope.body.get()) {
        Ok(body) => Decoded::Whole(Box::new(body)),
        Err(error) => Decoded::Damaged(format!("its content is not a state: {error}")),
    }
}

fn checksum(generation: u64, body: &RawValue) -> String {
    let digest = Sha256::new()
        .chain_update(SCHEMA.to_be_bytes())
        .chain_update(generation.to_be_bytes())
        .chain_update(body.get().as_bytes())
        .finalize();
    format!("sha256:{}", hex(digest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;

    use super::{Decoded, decode, encode};
    use crate::state::{Stored, conformance};

    fn sample() -> Vec<u8> {
        encode(&conformance::stored(7)).unwrap()
    }

    fn same(left: &Stored, right: &Stored) -> bool {
        serde_json::to_value(left).unwrap() == serde_json::to_value(right).unwrap()
    }

    #[test]
    fn a_text_cut_off_at_any_byte_is_damaged() {
        let text = sample();
        // The last byte is the newline, which the JSON does not need.
        for end in 0..text.len() - 1 {
            assert!(matches!(decode(&text[..end]), Decoded::Damaged(_)), "cut at {end}");
        }
    }

    #[test]
    fn a_flipped_bit_never_yields_another_state() {
        let (text, whole) = (sample(), conformance::stored(7));
        let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
        let mut damaged = 0;
        for _ in 0..1_000 {
            let mut text = text.clone();
            let at = rng.random_range(0..text.len());
            text[at] ^= 1 << rng.random_range(0..8);
            match decode(&text) {
                Decoded::Whole(stored) => assert!(same(&stored, &whole), "byte {at}"),
                Decoded::Newer(_) => assert!(at < 16, "byte {at} is not in the schema"),
                Decoded::Damaged(_) => damaged += 1,
            }
        }
        assert!(damaged > 900, "{damaged}");
    }

    #[test]
    fn a_later_schema_is_not_guessed_at() {
        let text = String::from_utf8(sample()).unwrap().replacen("\"schema\":1", "\"schema\":2", 1);
        assert!(matches!(decode(text.as_bytes()), Decoded::Newer(2)));
        assert!(matches!(decode(br#"{"schema":99,"anything":true}"#), Decoded::Newer(99)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(generation in any::<u64>(), services in 0_usize..5, changes in 0_usize..60) {
            let stored = conformance::stored_with(generation, services, changes);
            match decode(&encode(&stored).unwrap()) {
                Decoded::Whole(back) => prop_assert!(same(&back, &stored)),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(decode(&bytes), Decoded::Whole(_)));
        }
    }
}
