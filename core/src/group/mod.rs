//! Membership and epochs, server side and client side.
