//! Seeds from the operating system, the one place where its randomness enters.

/// The system gave no random bytes. No session may begin without: its keys would be guessable.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes: {0}")]
pub struct SeedError(getrandom::Error);

/// A fresh seed for a machine.
pub fn os_seed() -> Result<[u8; 32], SeedError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(SeedError)?;
    Ok(seed)
}
