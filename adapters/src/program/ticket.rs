//! `posse ticket`: what a login server does, for a shell.

use crate::key;
use crate::output::{complain, say, say_json};
use posse::posse_core::ticket::{self, Audience, Ticket};
use posse::{os_seed, rooms};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the ticket is to be.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// File of the secret that `posse serve --tickets` has, too; made if there is none.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Public key of the server that it is for, as `posse serve` prints it.
    #[arg(long, value_name = "K", value_parser = key::parse)]
    server_key: [u8; 32],
    /// How many seconds it is good for.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    length: u32,
    /// What the server is to know of whoever brings it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    data: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match made(options) {
        Ok(ticket) if options.json => {
            say_json("ticket", json!({ "ticket": ticket, "seconds": options.length, "at_ms": 0.0 }))
        }
        Ok(ticket) => say(&ticket),
        Err(why) => {
            complain("ticket", &why);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn made(options: &Options) -> Result<String, String> {
    let key = key::read_or_create(&options.key).map_err(|e| e.to_string())?;
    let seed = os_seed().map_err(|e| e.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "this host's clock is before 1970")?;
    let expires = Duration::from_secs(now.as_secs().saturating_add(options.length.into()));
    let mut id = [0; 16];
    id.iter_mut().zip(seed).for_each(|(to, from)| *to = from);
    let ticket = Ticket { id, expires, data: options.data.as_bytes().into() };
    let audience = Audience { server_key: &options.server_key, app: rooms::APP };
    let sealed = ticket::seal(&key, audience, &ticket).map_err(|e| e.to_string())?;
    Ok(sealed.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A ticket on the command line. (clap takes a list in an option for several values.)
#[derive(Clone)]
pub(crate) struct Sealed(Vec<u8>);

impl Sealed {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "a ticket is an even number of hexadecimal digits, as `posse ticket` prints them".to_owned();
        let hex = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex || text.len() > 2 * ticket::MAX_LEN {
            return Err(wrong());
        }
        let pairs = text.as_bytes().chunks(2).filter_map(|two| str::from_utf8(two).ok());
        pairs.map(|two| u8::from_str_radix(two, 16).map_err(|_| wrong())).collect::<Result<_, _>>().map(Self)
    }

    /// What a client brings; of none, nothing.
    pub(crate) fn bytes(ticket: Option<&Self>) -> Vec<u8> {
        ticket.map_or_else(Vec::new, |ticket| ticket.0.clone())
    }
}
