//! Capability flags of the handshake ("Distribution Flags" in the ERTS User's Guide).

/// References with several words.
pub const EXTENDED_REFERENCES: u64 = 0x4;
/// Process monitors. We never monitor and ignore being monitored; callers of
/// `net_kernel` insist on it before they ask.
pub const DIST_MONITOR: u64 = 0x8;
/// Funs in their oldest encoding, which nobody sends any more; OTP 25 insists on the
/// flag all the same.
pub const FUN_TAGS: u64 = 0x10;
/// Process monitors by registered name.
pub const DIST_MONITOR_NAME: u64 = 0x20;
/// Funs in their present encoding.
pub const NEW_FUN_TAGS: u64 = 0x80;
/// Process identifiers beyond 15 bits.
pub const EXTENDED_PIDS_PORTS: u64 = 0x100;
/// External funs.
pub const EXPORT_PTR_TAG: u64 = 0x200;
/// Bit strings.
pub const BIT_BINARIES: u64 = 0x400;
/// IEEE floats.
pub const NEW_FLOATS: u64 = 0x800;
/// Atoms in UTF-8.
pub const UTF8_ATOMS: u64 = 0x1_0000;
/// Maps.
pub const MAP_TAGS: u64 = 0x2_0000;
/// Creations of 32 bits.
pub const BIG_CREATION: u64 = 0x4_0000;
/// Version 6 of the handshake.
pub const HANDSHAKE_23: u64 = 0x100_0000;
/// The acknowledged unlink protocol.
pub const UNLINK_ID: u64 = 0x200_0000;
/// Stands for everything that OTP 25 made mandatory.
pub const MANDATORY_25_DIGEST: u64 = 1 << 36;
/// Identifiers of 64 bits.
pub const V4_NC: u64 = 1 << 34;

/// What OTP 25 made mandatory, as far as it concerns us.
const MANDATORY_25: u64 = EXTENDED_REFERENCES
    | FUN_TAGS
    | NEW_FUN_TAGS
    | EXTENDED_PIDS_PORTS
    | EXPORT_PTR_TAG
    | BIT_BINARIES
    | NEW_FLOATS
    | UTF8_ATOMS
    | MAP_TAGS
    | BIG_CREATION
    | HANDSHAKE_23;

/// What this node can. Not among it: `PUBLISHED`, so that Erlang nodes treat us as a
/// hidden node and nobody's `nodes()` lists an agent; `DIST_HDR_ATOM_CACHE` and
/// `FRAGMENTS`, so that every message comes whole and by itself.
pub const OFFERED: u64 = MANDATORY_25 | DIST_MONITOR | DIST_MONITOR_NAME | UNLINK_ID | V4_NC;

/// What a peer must be capable of, for what we send and to be a node of OTP 23 or later.
pub const REQUIRED: u64 =
    EXTENDED_REFERENCES | EXTENDED_PIDS_PORTS | UTF8_ATOMS | BIG_CREATION | HANDSHAKE_23;

/// Spells out the flags that one flag stands for.
#[must_use]
pub fn expand(flags: u64) -> u64 {
    if flags & MANDATORY_25_DIGEST == 0 { flags } else { flags | MANDATORY_25 }
}
