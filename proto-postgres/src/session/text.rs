//! Texts as the server reads them: in the client's encoding.

use std::borrow::Cow;

use encoding_rs::Encoding;

/// How the client's texts are encoded, as far as they can be read safely.
///
/// Encodings in which an ASCII byte can be the second half of a character (SJIS, BIG5, GBK, UHC, GB18030, JOHAB)
/// are not here: the gateway and the server could then disagree about where a literal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEncoding {
    /// UTF-8; also `SQL_ASCII` on a UTF-8 server, where bytes pass as they are.
    Utf8,
    /// ISO 8859-1: each byte is the character of that number.
    Latin1,
    /// Another encoding whose bytes below 128 are always ASCII.
    Table(&'static Encoding),
    /// One that can't be read safely: only ASCII texts pass.
    AsciiOnly,
}

impl ClientEncoding {
    /// From PostgreSQL's name for it (documentation, 24.3.1 Supported Character Sets). `None`: refused.
    pub fn from_name(name: &str) -> Option<Self> {
        let plain: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let label = match plain.as_str() {
            "UTF8" | "UNICODE" => return Some(Self::Utf8),
            "SQLASCII" => return Some(Self::AsciiOnly),
            "LATIN1" | "ISO88591" => return Some(Self::Latin1),
            "LATIN2" | "ISO88592" => "iso-8859-2",
            "LATIN3" | "ISO88593" => "iso-8859-3",
            "LATIN4" | "ISO88594" => "iso-8859-4",
            "LATIN6" | "ISO885910" => "iso-8859-10",
            "LATIN7" | "ISO885913" => "iso-8859-13",
            "LATIN8" | "ISO885914" => "iso-8859-14",
            "LATIN9" | "ISO885915" => "iso-8859-15",
            "LATIN10" | "ISO885916" => "iso-8859-16",
            "ISO88595" => "iso-8859-5",
            "ISO88596" => "iso-8859-6",
            "ISO88597" => "iso-8859-7",
            "ISO88598" => "iso-8859-8",
            "WIN1250" => "windows-1250",
            "WIN1251" | "WIN" => "windows-1251",
            "WIN1252" => "windows-1252",
            "WIN1253" => "windows-1253",
            "WIN1254" => "windows-1254",
            "WIN1255" => "windows-1255",
            "WIN1256" => "windows-1256",
            "WIN1257" => "windows-1257",
            "WIN1258" => "windows-1258",
            "WIN866" | "ALT" => "ibm866",
            "WIN874" => "windows-874",
            "KOI8R" | "KOI8" => "koi8-r",
            "KOI8U" => "koi8-u",
            "EUCJP" => "euc-jp",
            "EUCKR" => "euc-kr",
            "LATIN5" | "ISO88599" | "EUCCN" | "EUCTW" | "EUCJIS2004" | "MULEINTERNAL" => {
                return Some(Self::AsciiOnly);
            }
            _ => return None,
        };
        Some(Encoding::for_label(label.as_bytes()).map_or(Self::AsciiOnly, Self::Table))
    }

    /// Reads a text; `None` where it is not what the encoding says.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            _ if bytes.is_ascii() => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Latin1 => Some(Cow::Owned(bytes.iter().copied().map(char::from).collect())),
            Self::Table(encoding) => encoding.decode_without_bom_handling_and_without_replacement(bytes),
            Self::AsciiOnly => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_in_which_a_quote_can_hide_are_refused() {
        for name in [
            "SJIS",
            "BIG5",
            "GBK",
            "UHC",
            "GB18030",
            "JOHAB",
            "SHIFT_JIS_2004",
            "mskanji",
            "",
        ] {
            assert_eq!(ClientEncoding::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn texts_are_read_as_the_server_reads_them() {
        let latin = ClientEncoding::from_name("latin1").unwrap();
        assert_eq!(latin.decode(b"caf\xe9").unwrap(), "café");
        let cyrillic = ClientEncoding::from_name("WIN1251").unwrap();
        assert_eq!(cyrillic.decode(b"\xc4\xe0").unwrap(), "Да");
        assert_eq!(ClientEncoding::Utf8.decode(b"\xff"), None);
        assert_eq!(ClientEncoding::AsciiOnly.decode("é".as_bytes()), None);
        assert_eq!(ClientEncoding::AsciiOnly.decode(b"e").unwrap(), "e");
    }
}
