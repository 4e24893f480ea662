//! Field codecs for the types that the core shares with the rest of the program.

/// [`crate::node::NodeName`] as text; a text that is no node name is an error.
pub(super) mod node {
    use crate::node::NodeName;
    use minicbor::decode::Error as Unreadable;
    use minicbor::encode::{Error as Unwritable, Write};
    use minicbor::{Decoder, Encoder};

    pub(in super::super) fn encode<C, W: Write>(
        node: &NodeName,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Unwritable<W::Error>> {
        e.str(node.as_str())?.ok()
    }

    pub(in super::super) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<NodeName, Unreadable> {
        NodeName::parse(d.str()?).map_err(|_| Unreadable::message("not a node name"))
    }
}

/// A word out of a list that a newer agent may have added to: one that is not known is
/// none. Without this it would take the item behind it along: what is derived skips one
/// more than it has read.
pub(super) mod word {
    use minicbor::decode::Error as Unreadable;
    use minicbor::encode::{Error as Unwritable, Write};
    use minicbor::{Decode, Decoder, Encode, Encoder};

    pub(in super::super) fn encode<C, W: Write, T: Encode<C>>(
        word: &Option<T>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), Unwritable<W::Error>> {
        e.encode_with(word, ctx)?.ok()
    }

    pub(in super::super) fn decode<'b, C, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Option<T>, Unreadable> {
        let start = d.position();
        match d.decode_with(ctx) {
            Err(error) if error.is_unknown_variant() => {
                d.set_position(start);
                d.skip()?;
                Ok(None)
            }
            read => read,
        }
    }
}

/// What a member says of itself: `[tags, draining, broker]`, of which a later release may
/// append more. Nothing said is nil, and at a record's end left out.
pub(super) mod attributes {
    use std::sync::Arc;

    use crate::attributes::{Attributes, Broker, BrokerStatus, Tags};
    use minicbor::data::Type;
    use minicbor::decode::Error as Unreadable;
    use minicbor::encode::{Error as Unwritable, Write};
    use minicbor::{Decoder, Encoder};

    type Held = Option<Arc<Attributes>>;

    pub(in super::super) fn is_nil(held: &Held) -> bool {
        held.is_none()
    }

    pub(in super::super) fn nil() -> Option<Held> {
        Some(None)
    }

    pub(in super::super) fn encode<C, W: Write>(
        held: &Held,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Unwritable<W::Error>> {
        let Some(said) = held else { return e.null()?.ok() };
        e.array(3)?.map(said.tags.iter().count() as u64)?;
        for (name, value) in said.tags.iter() {
            e.str(name)?.str(value)?;
        }
        match &said.draining {
            Some(reason) => e.str(reason)?,
            None => e.null()?,
        };
        match &said.broker {
            Some(Broker { address, status, detail }) => {
                e.array(3)?.str(address)?.u8(*status as u8)?.str(detail)?.ok()
            }
            None => e.null()?.ok(),
        }
    }

    pub(in super::super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Held, Unreadable> {
        if is_null(d)? {
            return Ok(None);
        }
        let items = length(d.array()?, 3)?;
        let tags = tags(d)?;
        let draining = if is_null(d)? { None } else { Some(d.str()?.to_owned()) };
        let broker = if is_null(d)? { None } else { Some(broker(d)?) };
        skip(d, items - 3)?;
        let said = Attributes { tags, draining, broker };
        if !said.is_bounded() {
            return Err(Unreadable::message("attributes out of bounds"));
        }
        Ok((said != Attributes::default()).then(|| Arc::new(said)))
    }

    fn tags(d: &mut Decoder<'_>) -> Result<Tags, Unreadable> {
        let mut tags = Tags::default();
        for _ in 0..length(d.map()?, 0)? {
            let (name, value) = (d.str()?, d.str()?);
            tags.insert(name, value).map_err(|_| Unreadable::message("no set of tags"))?;
        }
        Ok(tags)
    }

    fn broker(d: &mut Decoder<'_>) -> Result<Broker, Unreadable> {
        let items = length(d.array()?, 3)?;
        let address = d.str()?.to_owned();
        let status = match d.u8()? {
            1 => BrokerStatus::Up,
            2 => BrokerStatus::Down,
            _ => BrokerStatus::Unknown,
        };
        let detail = d.str()?.to_owned();
        skip(d, items - 3)?;
        Ok(Broker { address, status, detail })
    }

    fn is_null(d: &mut Decoder<'_>) -> Result<bool, Unreadable> {
        let null = d.datatype()? == Type::Null;
        if null {
            d.null()?;
        }
        Ok(null)
    }

    /// Items of an array or a map, which must be at least so many.
    fn length(items: Option<u64>, least: u64) -> Result<u64, Unreadable> {
        let items = items.ok_or_else(|| Unreadable::message("of unknown length"))?;
        if items < least {
            return Err(Unreadable::message("too short"));
        }
        Ok(items)
    }

    fn skip(d: &mut Decoder<'_>, items: u64) -> Result<(), Unreadable> {
        (0..items).try_for_each(|_| d.skip())
    }
}

/// A tombstone's place in the order of burials; 0 is nil, and at a record's end left out. A
/// later release that says more behind it writes the nil.
pub(super) mod burial {
    use minicbor::data::Type;
    use minicbor::decode::Error as Unreadable;
    use minicbor::encode::{Error as Unwritable, Write};
    use minicbor::{Decoder, Encoder};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the derived code passes references")]
    pub(in super::super) fn is_nil(burial: &u64) -> bool {
        *burial == 0
    }

    pub(in super::super) fn nil() -> Option<u64> {
        Some(0)
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the derived code passes references")]
    pub(in super::super) fn encode<C, W: Write>(
        burial: &u64,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Unwritable<W::Error>> {
        e.u64(*burial)?.ok()
    }

    pub(in super::super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u64, Unreadable> {
        if d.datatype()? == Type::Null {
            d.null()?;
            return Ok(0);
        }
        d.u64()
    }
}

/// The version text, cut to its limit by whoever writes it, refused beyond it.
pub(super) mod version {
    use super::super::record::MAX_VERSION;
    use minicbor::decode::Error as Unreadable;
    use minicbor::encode::{Error as Unwritable, Write};
    use minicbor::{Decoder, Encoder};

    pub(in super::super) fn encode<C, W: Write>(
        text: &str,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Unwritable<W::Error>> {
        e.str(text)?.ok()
    }

    pub(in super::super) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<String, Unreadable> {
        match d.str()? {
            text if text.len() <= MAX_VERSION && !text.contains(char::is_control) => {
                Ok(text.to_owned())
            }
            _ => Err(Unreadable::message("not a version")),
        }
    }
}

/// Declares a codec that writes a newtype as the integer within.
macro_rules! integer {
    ($name:ident, $type:ty, $make:expr, $write:ident, $read:ident) => {
        pub(super) mod $name {
            use minicbor::decode::Error as Unreadable;
            use minicbor::encode::{Error as Unwritable, Write};
            use minicbor::{Decoder, Encoder};

            pub(in super::super) fn encode<C, W: Write>(
                value: &$type,
                e: &mut Encoder<W>,
                _: &mut C,
            ) -> Result<(), Unwritable<W::Error>> {
                e.$write(value.0)?.ok()
            }

            pub(in super::super) fn decode<C>(
                d: &mut Decoder<'_>,
                _: &mut C,
            ) -> Result<$type, Unreadable> {
                d.$read().map($make)
            }
        }
    };
}

integer!(incarnation, crate::node::Incarnation, crate::node::Incarnation, u64, u64);
integer!(boot, crate::node::BootId, crate::node::BootId, u64, u64);

/// [`crate::node::Role`] as 0 (core) or 1 (replicant); a newer role counts as a replicant.
pub(super) mod role {
    use crate::node::Role;
    use minicbor::decode::Error as Unreadable;
    use minicbor::encode::{Error as Unwritable, Write};
    use minicbor::{Decoder, Encoder};

    pub(in super::super) fn encode<C, W: Write>(
        role: &Role,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Unwritable<W::Error>> {
        e.u8(u8::from(*role == Role::Replicant))?.ok()
    }

    pub(in super::super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Role, Unreadable> {
        Ok(if d.u8()? == 0 { Role::Core } else { Role::Replicant })
    }
}

/// [`crate::node::ClusterId`] as 16 bytes, or null.
pub(super) mod id {
    use crate::node::ClusterId;
    use minicbor::data::Type;
    use minicbor::decode::Error as Unreadable;
    use minicbor::encode::{Error as Unwritable, Write};
    use minicbor::{Decoder, Encoder};

    pub(in super::super) fn encode<C, W: Write>(
        id: &Option<ClusterId>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Unwritable<W::Error>> {
        match id {
            Some(id) => e.bytes(&id.0.to_be_bytes())?.ok(),
            None => e.null()?.ok(),
        }
    }

    pub(in super::super) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Option<ClusterId>, Unreadable> {
        if d.datatype()? == Type::Null {
            d.null()?;
            return Ok(None);
        }
        let bytes = d.bytes()?.try_into().map_err(|_| Unreadable::message("not an id"))?;
        Ok(Some(ClusterId(u128::from_be_bytes(bytes))))
    }
}
