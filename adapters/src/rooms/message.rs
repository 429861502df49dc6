//! What client and server of a room tell one another beside the protocol: the request in the token, the display name in
//! the user data, and a refusal. Each begins with its version.

use super::MAX_NAME;

/// The version of every message here. A message of another one is refused, never guessed at.
pub(super) const VERSION: u8 = 1;

/// A name that cannot be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Of no character.
    #[error("a name has at least one character")]
    Empty,
    /// Longer than [`MAX_NAME`].
    #[error("a name of {len} bytes, at most {MAX_NAME} fit")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A control character, which would rewrite the terminal or the log that shows it.
    #[error("a name has no control characters")]
    Control,
}

/// Bytes that are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Another version of this format.
    #[error("version {found} of the room protocol, this end speaks {VERSION}")]
    Version {
        /// Which.
        found: u8,
    },
    /// It ends early, goes on after its end, or is not UTF-8.
    #[error("not a message of the room protocol")]
    Shape,
    /// A name in it cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What a client asks of the stock server: a room, and the name that others there will see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    room: String,
    name: String,
}

impl Request {
    /// To join `room` as `name`: 1 to [`MAX_NAME`] bytes each, no control characters. Rooms are the same if their names are,
    /// byte for byte.
    pub fn new(room: impl Into<String>, name: impl Into<String>) -> Result<Self, NameError> {
        let request = Self { room: room.into(), name: name.into() };
        check(&request.room)?;
        check(&request.name)?;
        Ok(request)
    }

    /// The room.
    pub fn room(&self) -> &str {
        &self.room
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The login token that says so.
    pub fn token(&self) -> Vec<u8> {
        let mut token = vec![VERSION];
        write_text(&mut token, &self.room);
        write_text(&mut token, &self.name);
        token
    }

    /// Reads a token.
    pub fn parse(token: &[u8]) -> Result<Self, Malformed> {
        let (room, rest) = read_text(version(token)?)?;
        let (name, rest) = read_text(rest)?;
        if !rest.is_empty() {
            return Err(Malformed::Shape);
        }
        Ok(Self::new(room, name)?)
    }
}

/// Why the stock server does not let a client in. Travels as the message of the rejection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The token is no request: another application, or a damaged client.
    #[error("the server cannot read the request")]
    Malformed,
    /// The server speaks another version of the room protocol.
    #[error("the server speaks version {server} of the room protocol, this client {VERSION}")]
    Version {
        /// The server's.
        server: u8,
    },
    /// The room's name or the display name cannot be one; see [`NameError`].
    #[error("the server does not allow this room name or display name")]
    Name,
    /// The room has as many members as a room may have.
    #[error("the room is full: {max} members")]
    RoomFull {
        /// How many those are.
        max: u16,
    },
    /// There are as many rooms as the server allows, and this would be another one.
    #[error("the server has no place for another room")]
    TooManyRooms,
    /// The server is about to stop.
    #[error("the server is stopping")]
    Stopping,
}

impl Refusal {
    /// As the server sends it.
    pub fn encode(self) -> Vec<u8> {
        let (code, value) = match self {
            Self::Malformed => (0, 0),
            Self::Version { server } => (1, u16::from(server)),
            Self::Name => (2, 0),
            Self::RoomFull { max } => (3, max),
            Self::TooManyRooms => (4, 0),
            Self::Stopping => (5, 0),
        };
        let [high, low] = value.to_be_bytes();
        vec![VERSION, code, high, low]
    }

    /// Reads a rejection's message; `None` if it is no refusal of a stock server. What a later version appends is ignored,
    /// as a refusal is the one message that must be readable across versions.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let ([_, code, value @ ..], _) = message.split_first_chunk::<4>()?;
        let value = u16::from_be_bytes(*value);
        Some(match code {
            0 => Self::Malformed,
            1 => Self::Version { server: u8::try_from(value).ok()? },
            2 => Self::Name,
            3 => Self::RoomFull { max: value },
            4 => Self::TooManyRooms,
            5 => Self::Stopping,
            _ => return None,
        })
    }
}

impl From<Malformed> for Refusal {
    fn from(why: Malformed) -> Self {
        match why {
            Malformed::Version { .. } => Self::Version { server: VERSION },
            Malformed::Shape => Self::Malformed,
            Malformed::Name(_) => Self::Name,
        }
    }
}

/// A member's user data, which peers read with [`read_name`].
pub(super) fn user_data(name: &str) -> Vec<u8> {
    let mut data = vec![VERSION];
    write_text(&mut data, name);
    data
}

/// The display name in a member's user data.
pub(super) fn read_name(user_data: &[u8]) -> Result<&str, Malformed> {
    let (name, rest) = read_text(version(user_data)?)?;
    if !rest.is_empty() {
        return Err(Malformed::Shape);
    }
    check(name)?;
    Ok(name)
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong { len: name.len() });
    }
    if name.chars().any(char::is_control) { Err(NameError::Control) } else { Ok(()) }
}

pub(super) fn version(bytes: &[u8]) -> Result<&[u8], Malformed> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((&found, _)) => Err(Malformed::Version { found }),
        None => Err(Malformed::Shape),
    }
}

pub(super) fn read_text(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (&len, rest) = bytes.split_first().ok_or(Malformed::Shape)?;
    let (text, rest) = rest.split_at_checked(usize::from(len)).ok_or(Malformed::Shape)?;
    Ok((str::from_utf8(text).map_err(|_| Malformed::Shape)?, rest))
}

/// Only ever called with a name that [`check`] let pass, so that its length fits the byte before it.
pub(super) fn write_text(into: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= MAX_NAME);
    into.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    into.extend(text.bytes().take(usize::from(u8::MAX)));
}
