//! From a query to its answer: a pure function of the query, the zone and a table.
//!
//! RFC 1034, 1035, 2181, 2308 (answers without records), 6891 (EDNS), 8482 (ANY).

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::{
    Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_resolver::proto::rr::rdata::{HINFO, NS, SOA, SRV};
use hickory_resolver::proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinEncodable, BinEncoder};
use rand::Rng;
use rand::seq::SliceRandom;

use super::table::{Endpoint, Table};
use super::zone::{Place, Zone};

/// Longest query that is read, bytes. A name takes 255 of them; options take the rest.
pub const MAX_QUERY: usize = 1232;

/// Longest answer over UDP, whatever a query allows: no fragment of it is ever needed
/// (the value that resolvers agreed on at the DNS flag day 2020).
pub const MAX_UDP: u16 = 1232;

/// Longest answer over UDP to a query that does not say (RFC 1035, 4.2.1).
pub(super) const MIN_UDP: u16 = 512;

/// Bytes of an OPT record without options, the only kind that is sent.
const OPT_LEN: u16 = 11;

/// An answer, not yet cut to the size that its carrier takes.
#[derive(Clone, Debug)]
pub struct Answer {
    message: Message,
    /// How it ended, in a fixed word.
    pub outcome: &'static str,
    /// Longest answer over UDP that the query allows.
    pub udp: u16,
}

/// Answers a query. `None`: it deserves none, since it is no query.
#[must_use]
pub fn answer(
    query: &[u8],
    zone: &Zone,
    table: &Table,
    rng: &mut (impl Rng + ?Sized),
) -> Option<Answer> {
    let &[id_high, id_low, flags, ..] = query.first_chunk::<12>()?;
    // An answer is never answered: two servers would do so for ever.
    if flags & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([id_high, id_low]);
    let op_code = OpCode::from_u8((flags >> 3) & 0xf);
    let bare = |code| {
        let mut message = Message::new(id, MessageType::Response, op_code);
        message.metadata.recursion_desired = flags & 1 != 0;
        Answer::new(message, code, MIN_UDP)
    };
    if op_code != OpCode::Query {
        return Some(bare(ResponseCode::NotImp));
    }
    if query.len() > MAX_QUERY {
        return Some(bare(ResponseCode::FormErr));
    }
    let Ok(query) = Message::from_vec(query) else { return Some(bare(ResponseCode::FormErr)) };
    let [question] = query.queries.as_slice() else { return Some(bare(ResponseCode::FormErr)) };
    let mut message = Message::new(id, MessageType::Response, op_code);
    message.metadata = Metadata::response_from_request(&query.metadata);
    message.add_query(question.clone());
    let mut udp = MIN_UDP;
    if let Some(asked) = &query.edns {
        udp = asked.max_payload().clamp(MIN_UDP, MAX_UDP);
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP).set_version(0);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        message.edns = Some(edns);
        if asked.version() > 0 {
            return Some(Answer::new(message, ResponseCode::BADVERS, udp));
        }
    }
    let code = fill(&mut message, question, zone, table, rng);
    Some(Answer::new(message, code, udp))
}

/// Puts the records in, and says what the answer is.
fn fill(
    message: &mut Message,
    question: &Query,
    zone: &Zone,
    table: &Table,
    rng: &mut (impl Rng + ?Sized),
) -> ResponseCode {
    let place = zone.place(&question.name);
    let transfer = matches!(question.query_type, RecordType::AXFR | RecordType::IXFR);
    if place == Place::Outside || transfer || question.query_class != DNSClass::IN {
        return ResponseCode::Refused;
    }
    if !table.able {
        return ResponseCode::ServFail;
    }
    message.metadata.authoritative = true;
    let Some(records) = records(&place, table) else {
        message.add_authority(soa(zone, table));
        return ResponseCode::NXDomain;
    };
    // The name as it was asked: some resolvers compare its letter case.
    let named = |data| Record::from_rdata(question.name.clone(), zone.ttl(), data);
    let mut answers: Vec<Record> = match question.query_type {
        RecordType::ANY => records.any().into_iter().map(named).collect(),
        wanted => records.of(wanted, zone, table).into_iter().map(named).collect(),
    };
    answers.shuffle(rng);
    for record in &answers {
        let target = match &record.data {
            RData::SRV(srv) => &srv.target,
            RData::NS(ns) => &ns.0,
            _ => continue,
        };
        let addresses = match &record.data {
            RData::SRV(_) => table.targets.get(target),
            _ => Some(&table.own),
        };
        let glue = addresses
            .into_iter()
            .flatten()
            .map(|ip| Record::from_rdata(target.clone(), zone.ttl(), address(*ip)));
        message.additionals.extend(glue);
    }
    if answers.is_empty() {
        message.add_authority(soa(zone, table));
    }
    message.answers = answers;
    ResponseCode::NoError
}

/// What stands at a name.
enum Records<'a> {
    None,
    Apex,
    Addresses(&'a BTreeSet<IpAddr>),
    Address(IpAddr),
    Endpoints,
}

fn records<'a>(place: &Place, table: &'a Table) -> Option<Records<'a>> {
    Some(match place {
        Place::Outside | Place::Nowhere => return None,
        Place::Empty => Records::None,
        Place::Apex => Records::Apex,
        Place::NameServer => Records::Addresses(&table.own),
        Place::Nodes => Records::Addresses(&table.nodes),
        Place::Node(name) => Records::Addresses(table.by_name.get(name)?),
        Place::Brokers => Records::Addresses(&table.brokers),
        Place::Endpoints => Records::Endpoints,
        Place::Address(ip) if table.knows(*ip) => Records::Address(*ip),
        Place::Address(_) => return None,
    })
}

impl Records<'_> {
    /// The records of one type.
    fn of(&self, wanted: RecordType, zone: &Zone, table: &Table) -> Vec<RData> {
        match (self, wanted) {
            (Self::Apex, RecordType::SOA) => vec![soa(zone, table).data],
            (Self::Apex, RecordType::NS) => vec![RData::NS(NS(zone.name_server()))],
            (Self::Addresses(all), RecordType::A | RecordType::AAAA) => {
                let family = all.iter().filter(|ip| ip.is_ipv6() == (wanted == RecordType::AAAA));
                family.map(|ip| address(*ip)).collect()
            }
            (Self::Address(ip), RecordType::A) if ip.is_ipv4() => vec![address(*ip)],
            (Self::Address(ip), RecordType::AAAA) if ip.is_ipv6() => vec![address(*ip)],
            (Self::Endpoints, RecordType::SRV) => {
                let endpoints = table.endpoints.iter();
                // Weight 1 and not 0, which haproxy takes for a server that drains.
                let record = |e: &Endpoint| RData::SRV(SRV::new(0, 1, e.port, e.target.clone()));
                endpoints.map(record).collect()
            }
            _ => Vec::new(),
        }
    }

    /// ANY is answered with one small record (RFC 8482): all of them would serve nobody
    /// but an attacker.
    fn any(&self) -> Vec<RData> {
        match self {
            Self::None => Vec::new(),
            _ => vec![RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()))],
        }
    }
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(ip.into()),
        IpAddr::V6(ip) => RData::AAAA(ip.into()),
    }
}

/// Its last number says how long "no such name" may be kept: no longer than an answer.
fn soa(zone: &Zone, table: &Table) -> Record {
    let (server, responsible) = (zone.name_server(), zone.responsible());
    let soa = SOA::new(server, responsible, table.serial, 60, 60, 86_400, zone.ttl());
    Record::from_rdata(zone.apex().clone(), zone.ttl(), RData::SOA(soa))
}

impl Answer {
    fn new(mut message: Message, code: ResponseCode, udp: u16) -> Self {
        message.metadata.response_code = code;
        let outcome = match code {
            ResponseCode::NoError if message.answers.is_empty() => "nodata",
            ResponseCode::NoError => "ok",
            ResponseCode::NXDomain => "nxdomain",
            ResponseCode::Refused => "refused",
            ResponseCode::ServFail => "servfail",
            ResponseCode::NotImp => "notimp",
            ResponseCode::BADVERS => "badvers",
            _ => "formerr",
        };
        Self { message, outcome, udp }
    }

    /// The answer without its records and marked as cut: whoever asked asks again over
    /// TCP, which shows that it is there. No longer than the query.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.message.metadata.truncation = true;
        self.message.answers.clear();
        self.message.authorities.clear();
        self.message.additionals.clear();
        self
    }

    /// The answer in at most `max` bytes: addresses of targets are left out first, which
    /// a client can ask for; then records, which is marked with TC. Of a set in random
    /// order, what is left is a random part.
    ///
    /// # Errors
    /// The message cannot be written, which is a bug of ours.
    pub fn encode(&self, max: u16) -> Result<Vec<u8>, ProtoError> {
        let message = &self.message;
        let opt = message.edns.as_ref();
        let mut bytes = Vec::with_capacity(usize::from(MIN_UDP));
        let mut encoder = BinEncoder::new(&mut bytes);
        let room = usize::from(max - opt.map_or(0, |_| OPT_LEN));
        let place = encoder.place::<Header>()?;
        let (queries, _cut) = put(&mut encoder, &message.queries, room)?;
        let (answers, cut) = put(&mut encoder, &message.answers, room)?;
        let (authorities, cut) = match cut {
            true => (0, true),
            false => put(&mut encoder, &message.authorities, room)?,
        };
        let (mut additionals, _left_out) = match cut {
            true => (0, true),
            false => put(&mut encoder, &message.additionals, room)?,
        };
        if let Some(opt) = opt {
            let mut opt = opt.clone();
            opt.set_rcode_high(message.metadata.response_code.high());
            Record::from(&opt).emit(&mut encoder)?;
            additionals += 1;
        }
        let mut metadata = message.metadata;
        metadata.truncation |= cut;
        let counts = HeaderCounts { queries, answers, authorities, additionals };
        place.replace(&mut encoder, Header { metadata, counts })?;
        Ok(bytes)
    }
}

/// Writes records for as long as they end within `room`: how many, and whether some were
/// left out. (The encoder's own limit would leave out the last one too often: it writes a
/// name in full before it finds that a reference to an earlier one will do.)
fn put<R: BinEncodable>(
    encoder: &mut BinEncoder<'_>,
    records: &[R],
    room: usize,
) -> Result<(u16, bool), ProtoError> {
    let mut count = 0;
    for record in records {
        let before = encoder.offset();
        match record.emit(encoder) {
            Ok(()) if encoder.offset() <= room => count += 1,
            Ok(()) | Err(ProtoError::MaxBufferSizeExceeded(_)) => {
                encoder.set_offset(before);
                encoder.trim();
                return Ok((count, true));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((count, false))
}

#[cfg(test)]
mod tests;
