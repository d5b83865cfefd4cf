//! Converts ProxySQL's values to text and back. A value is bytes (a Latin-1 terminal, a BLOB); core keeps text.
//!
//! UTF-8 stays as it is. Any other byte becomes one private-use character. A private-use character of that range is
//! also converted byte by byte, so that no two values become the same text.

/// The first of the 256 characters that stand for a byte. They are the last ones of Unicode's private use.
const FIRST: u32 = 0x10_FF00;

/// The largest number of extra bytes of text per byte of a value.
pub const GROWTH_MAX: usize = 3;

/// The byte that a character stands for, if any.
pub fn byte_of(letter: char) -> Option<u8> {
    u8::try_from(u32::from(letter).checked_sub(FIRST)?).ok()
}

fn stand_in(byte: u8) -> char {
    char::from_u32(FIRST + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Converts a value to text.
pub fn to_text(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) if text.is_ascii() || text.chars().all(|letter| byte_of(letter).is_none()) => return text,
        Ok(text) => text.into_bytes(),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match byte_of(letter) {
                None => text.push(letter),
                Some(_) => text.extend(letter.encode_utf8(&mut [0; 4]).bytes().map(stand_in)),
            }
        }
        text.extend(chunk.invalid().iter().copied().map(stand_in));
    }
    text
}

/// Converts a text back to its value.
pub fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match byte_of(letter) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_utf_8_is_its_own_text_and_any_other_byte_is_one_character() {
        assert_eq!(to_text("it's é\0".into()), "it's é\0");
        let latin = to_text(b"B\xFCro 3".to_vec());
        assert_eq!(latin.chars().map(byte_of).collect::<Vec<_>>()[..3], [None, Some(0xFC), None]);
        assert_eq!(latin.chars().count(), 6);
    }

    proptest! {
        #[test]
        fn a_value_comes_back_to_the_byte(
            bytes in vec(prop_oneof![any::<u8>(), 0x80..=0xFF_u8, Just(0xF4_u8), Just(0x8F_u8), Just(0xBC_u8)], 0..40)
        ) {
            prop_assert_eq!(to_bytes(&to_text(bytes.clone())), bytes);
        }

        #[test]
        fn so_does_a_character_of_the_range_that_stands_for_bytes(letters in vec(0xF_FFFD..=0x10_FFFF_u32, 0..10)) {
            let text: String = letters.into_iter().filter_map(char::from_u32).collect();
            let kept = to_text(text.clone().into_bytes());
            prop_assert_eq!(String::from_utf8(to_bytes(&kept)).unwrap(), text);
        }

        #[test]
        fn a_text_without_them_stays_as_it_is(text in "\\PC*") {
            prop_assume!(text.chars().all(|letter| byte_of(letter).is_none()));
            prop_assert_eq!(to_text(to_bytes(&text)), text);
        }
    }
}
