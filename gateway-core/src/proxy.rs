//! The PROXY protocol, versions 1 and 2: a load balancer tells whose connection it passes on.
//!
//! "The PROXY protocol", HAProxy's `doc/proxy-protocol.txt`. A header is taken from listed peers only, and demanded of
//! them: section 2 forbids to guess whether there is one. From any other peer the same bytes are the adapter's to
//! refuse, since no protocol begins with them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header of version 1, its line end included (section 2.1).
const V1_MAX: usize = 107;
/// What a header of version 2 begins with (section 2.2).
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest address block of version 2: addresses take 216 bytes at most, and what else load balancers tell some
/// hundreds. The format allows 65,535.
const V2_MAX: usize = 4096;

/// Peers whose PROXY headers are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// Those in any of `networks`.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether `peer` is one of them.
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(peer))
    }

    /// The networks, as they are written.
    pub fn networks(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Network::to_string)
    }
}

/// Addresses with the same first bits: `10.0.0.0/8`, `2001:db8::/32`, `127.0.0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether an address is in it; `::ffff:10.0.0.1` is 10.0.0.1.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, own_width) = bits(self.address);
        let (other, width) = bits(address.to_canonical());
        own_width == width && cut(own, width, self.prefix) == cut(other, width, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no network; write one like 10.0.0.0/8, or one address");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (all, width) = bits(address);
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|p| *p <= width).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
            None => width,
        };
        if address.to_canonical() != address || cut(all, width, prefix) != all {
            let first = match address {
                IpAddr::V4(_) => IpAddr::V4(u32::try_from(cut(all, width, prefix)).unwrap_or(0).into()),
                IpAddr::V6(_) => IpAddr::V6(cut(all, width, prefix).into()).to_canonical(),
            };
            return Err(format!(
                "`{text}` is not how its network is written; write it like {first}/{prefix}"
            ));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// An address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

/// The first `prefix` of `width` bits, the others zero.
fn cut(bits: u128, width: u8, prefix: u8) -> u128 {
    let behind = u32::from(width.saturating_sub(prefix));
    bits.checked_shr(behind)
        .and_then(|kept| kept.checked_shl(behind))
        .unwrap_or(0)
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The connection is passed on for this peer.
    Proxied(SocketAddr),
    /// The proxy's own connection (a health check), or one whose peer it cannot tell: `LOCAL`, `UNKNOWN`, and peers
    /// that have no IP address. The connection's own address counts.
    Local,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The bytes are none.
    #[error("the proxy sent a malformed PROXY header: {0}")]
    Malformed(&'static str),
    /// It went away.
    #[error("no PROXY header: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads a header from the start of a connection, and no byte behind it. `None`: the peer closed without a word. The
/// caller holds the deadline.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Header>, ProxyError> {
    let mut first = [0];
    if stream.read(&mut first).await? == 0 {
        return Ok(None);
    }
    if first == [V2_SIGNATURE[0]] {
        return read_v2(stream).await.map(Some);
    }
    // Byte by byte: what stands behind the line is not ours to take, and the line is short.
    let mut line = first.to_vec();
    while !line.ends_with(b"\n") {
        if line.len() >= V1_MAX {
            return Err(ProxyError::Malformed("no line end within 107 bytes"));
        }
        if line.first_chunk::<6>().is_some_and(|start| start != b"PROXY ") {
            return Err(ProxyError::Malformed("it does not begin with PROXY"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_v1(&line).map(Some)
}

fn parse_v1(line: &[u8]) -> Result<Header, ProxyError> {
    let malformed = |why| Err(ProxyError::Malformed(why));
    let Some(rest) = line
        .strip_prefix(b"PROXY ")
        .and_then(|rest| rest.strip_suffix(b"\r\n"))
    else {
        return malformed("it is no line `PROXY ...` with CR LF at its end");
    };
    // "The receiver must ignore anything presented before the CRLF."
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Ok(Header::Local);
    }
    let Ok(rest) = std::str::from_utf8(rest) else {
        return malformed("it is no ASCII");
    };
    let mut words = rest.split(' ');
    let family = words.next().unwrap_or_default();
    let [
        Some(source),
        Some(target),
        Some(source_port),
        Some(target_port),
        None,
    ] = std::array::from_fn(|_| words.next())
    else {
        return malformed("it has not two addresses and two ports");
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (Some(source), Some(_)) = (address(source), address(target)) else {
        return malformed("no addresses of its family");
    };
    let (Some(port), Some(_)) = (port(source_port), port(target_port)) else {
        return malformed("a port is none");
    };
    Ok(Header::Proxied(SocketAddr::new(source, port)))
}

/// A port as the format writes it: decimal, no sign, no leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Reads what follows the first byte of the signature.
async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header, ProxyError> {
    let mut head = [0; 15];
    stream.read_exact(&mut head).await?;
    let [signature @ .., command, family, high, low] = head;
    if signature != V2_SIGNATURE[1..] {
        return Err(ProxyError::Malformed("its signature is wrong"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_MAX {
        return Err(ProxyError::Malformed("it is longer than 4096 bytes"));
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    parse_v2(command, family, &block)
}

fn parse_v2(command: u8, family: u8, block: &[u8]) -> Result<Header, ProxyError> {
    let short = ProxyError::Malformed("its addresses are cut short");
    match command {
        // The receiver "must discard the protocol block including the family".
        0x20 => return Ok(Header::Local),
        0x21 => {}
        _ => return Err(ProxyError::Malformed("its version or command is unknown")),
    }
    // Source and target address, source and target port; what follows (TLVs) is ignored.
    match family {
        0x11 => {
            let ([a, b, c, d, _, _, _, _, high, low, _, _], _) =
                block.split_first_chunk::<12>().ok_or(short)?;
            let port = u16::from_be_bytes([*high, *low]);
            Ok(Header::Proxied((Ipv4Addr::new(*a, *b, *c, *d), port).into()))
        }
        0x21 => {
            let (addresses, _) = block.split_first_chunk::<36>().ok_or(short)?;
            let [
                source @ ..,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                high,
                low,
                _,
                _,
            ] = addresses;
            let port = u16::from_be_bytes([*high, *low]);
            Ok(Header::Proxied((Ipv6Addr::from(*source), port).into()))
        }
        // AF_UNSPEC, and unix sockets: there is no IP address to take.
        0x00 | 0x31 => Ok(Header::Local),
        _ => Err(ProxyError::Malformed("its family or transport is none of TCP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` and says how many were taken.
    async fn read(bytes: &[u8]) -> (Result<Option<Header>, ProxyError>, usize) {
        let mut rest = bytes;
        let got = read_header(&mut rest).await;
        (got, bytes.len() - rest.len())
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length, block].concat()
    }

    const V4_BLOCK: &[u8] = b"\xcb\x00\x71\x05\x0a\x00\x00\x01\xd4\x31\x19\x20";

    fn good() -> Vec<(Vec<u8>, Header)> {
        let v6: SocketAddr = "[2001:db8::5]:54321".parse().unwrap();
        let v6_block = [
            &"2001:db8::5".parse::<Ipv6Addr>().unwrap().octets()[..],
            &Ipv6Addr::LOCALHOST.octets(),
            b"\xd4\x31\x19\x20",
        ]
        .concat();
        let v4 = Header::Proxied("203.0.113.5:54321".parse().unwrap());
        let v4_line = b"PROXY TCP4 203.0.113.5 10.0.0.1 54321 6432\r\n";
        let tlv = [V4_BLOCK, b"\x04\x00\x01x"].concat();
        vec![
            (v4_line.to_vec(), v4),
            (
                b"PROXY TCP6 2001:db8::5 ::1 54321 6432\r\n".to_vec(),
                Header::Proxied(v6),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Header::Local),
            (b"PROXY UNKNOWN 127.0.0.1 x y z\r\n".to_vec(), Header::Local),
            (v2(0x21, 0x11, V4_BLOCK), v4),
            (v2(0x21, 0x11, &tlv), v4),
            (v2(0x21, 0x21, &v6_block), Header::Proxied(v6)),
            (v2(0x20, 0x00, b""), Header::Local),
            (v2(0x20, 0x11, V4_BLOCK), Header::Local),
            (v2(0x21, 0x00, b"anything"), Header::Local),
            (v2(0x21, 0x31, &[0; 216]), Header::Local),
        ]
    }

    #[tokio::test]
    async fn headers_are_read_and_no_byte_behind_them() {
        for (header, expected) in good() {
            let bytes = [&header[..], b"\x16\x03rest"].concat();
            let (got, taken) = read(&bytes).await;
            assert_eq!(got.unwrap(), Some(expected));
            assert_eq!(taken, header.len());
        }
        assert!(matches!(read(b"").await, (Ok(None), 0)));
    }

    #[tokio::test]
    async fn every_strict_prefix_is_an_error() {
        for (header, _) in good() {
            for end in 1..header.len() {
                assert!(read(&header[..end]).await.0.is_err(), "{end} of {header:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for bad in [
            &b"PROXY TCP4 203.0.113.5 10.0.0.1 54321 6432\n"[..],
            b"PROXY TCP4 203.0.113.5 10.0.0.1 54321\r\n",
            b"PROXY TCP4 203.0.113.5 10.0.0.1 54321 6432 1\r\n",
            b"PROXY TCP4  203.0.113.5 10.0.0.1 54321 6432\r\n",
            b"PROXY TCP4 2001:db8::5 ::1 54321 6432\r\n",
            b"PROXY TCP6 203.0.113.5 10.0.0.1 54321 6432\r\n",
            b"PROXY TCP4 203.0.113.05 10.0.0.1 54321 6432\r\n",
            b"PROXY TCP4 203.0.113.5 10.0.0.1 +4321 6432\r\n",
            b"PROXY TCP4 203.0.113.5 10.0.0.1 04321 6432\r\n",
            b"PROXY TCP4 203.0.113.5 10.0.0.1 65536 6432\r\n",
            b"PROXY UDP4 203.0.113.5 10.0.0.1 54321 6432\r\n",
            b"PROXY UNKNOWNS\r\n",
            b"proxy UNKNOWN\r\n",
            b"\0\0\0\x08\x04\xd2\x16\x2f and more bytes",
            b"\x16\x03\x01\x02\0\x01\0",
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
            &v2(0x11, 0x11, V4_BLOCK),
            &v2(0x22, 0x11, V4_BLOCK),
            &v2(0x21, 0x12, V4_BLOCK),
            &v2(0x21, 0x41, V4_BLOCK),
            &v2(0x21, 0x11, &V4_BLOCK[..11]),
            &v2(0x21, 0x21, V4_BLOCK),
            &v2(0x21, 0x11, &[0; V2_MAX + 1]),
            b"\r\n\r\n\0\r\nQUIT\r and more bytes",
        ] {
            let (got, taken) = read(bad).await;
            let got = got.unwrap_err();
            assert!(matches!(got, ProxyError::Malformed(_)), "{bad:?}: {got}");
            assert!(taken <= V1_MAX.max(16 + V2_MAX));
        }
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let proxies = TrustedProxies::new(
            ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
        );
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.7",
            "2001:db8:1::1",
            "::ffff:10.1.2.3",
        ] {
            assert!(proxies.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "11.0.0.0",
            "9.255.255.255",
            "192.0.2.8",
            "2001:db9::",
            "::1",
            "::a00:1",
        ] {
            assert!(!proxies.contains(outside.parse().unwrap()), "{outside}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("203.0.113.5".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        assert_eq!(proxies.networks().last().as_deref(), Some("2001:db8::/32"));
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_network_is_written_one_way() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "10.0.0/8",
            "lb.example",
            "10.0.0.0/8/8",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        let told = |text: &str| text.parse::<Network>().unwrap_err();
        assert!(told("10.1.2.3/8").ends_with("write it like 10.0.0.0/8"));
        assert!(
            told("::ffff:10.0.0.1/128").contains("10.0.0.1"),
            "{}",
            told("::ffff:10.0.0.1/128")
        );
    }
}
