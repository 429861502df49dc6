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

/// Whether this processor computes AES-GCM in hardware. Without, ChaCha20-Poly1305 is faster and leaks no timing.
pub(crate) fn aes_hardware() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}
