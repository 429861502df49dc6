//! Cipher suites, login handshake, pair keys, packet protection, replay window.
