//! Reliable UDP: number spaces, acknowledgements, loss recovery, congestion control, pacing, channels.
