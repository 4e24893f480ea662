use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::follow::dns::table::Hosts;
use crate::follow::fixtures::{member, snapshot};
use crate::view::ClusterState;

fn zone() -> Zone {
    Zone::new("emqxcl", "muster", Duration::from_secs(7), [10, 0, 0, 1].into()).unwrap()
}

/// So many members, the odd ones of IPv6.
fn table(members: u16) -> Table {
    let name = |n: u16| match n % 2 {
        0 => format!("emqx{n}@10.0.{}.{}", n / 250, n % 250 + 1),
        _ => format!("emqx{n}@2001:db8::{n:x}"),
    };
    let view = snapshot((0..members).map(|n| member(&name(n))).collect());
    Table::new(&zone(), &view, &Hosts::new(), 3)
}

fn question(name: &str, wanted: RecordType) -> Message {
    let mut query = Message::new(0x1234, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    query.add_query(Query::query(name, wanted));
    query
}

fn with_edns(mut query: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    query.set_edns(edns);
    query
}

fn get(query: &Message, table: &Table) -> Answer {
    let bytes = query.to_vec().unwrap();
    answer(&bytes, &zone(), table, &mut StdRng::seed_from_u64(1)).unwrap()
}

/// As it comes over TCP.
fn ask(name: &str, wanted: RecordType, table: &Table) -> Message {
    let bytes = get(&question(name, wanted), table).encode(u16::MAX).unwrap();
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!((message.id, message.message_type), (0x1234, MessageType::Response));
    assert!(message.recursion_desired && !message.recursion_available);
    message
}

fn data(message: &Message) -> Vec<String> {
    let mut data: Vec<_> = message.answers.iter().map(|r| r.data.to_string()).collect();
    data.sort();
    data
}

#[test]
fn every_name_answers_every_type() {
    let table = table(4);
    let v4 = ["10.0.0.1", "10.0.0.3"];
    let v6 = ["2001:db8::1", "2001:db8::3"];
    for name in ["nodes.emqxcl.muster", "mqtt.service.emqxcl.muster"] {
        assert_eq!(data(&ask(name, RecordType::A, &table)), v4);
        assert_eq!(data(&ask(name, RecordType::AAAA, &table)), v6);
    }
    assert_eq!(data(&ask("EMQX2.node.emqxcl.muster", RecordType::A, &table)), ["10.0.0.3"]);
    let srv = ask("_mqtt._tcp.service.emqxcl.muster", RecordType::SRV, &table);
    assert_eq!(
        data(&srv),
        [
            "0 1 1883 10-0-0-1.addr.emqxcl.muster.",
            "0 1 1883 10-0-0-3.addr.emqxcl.muster.",
            "0 1 1883 20010db8000000000000000000000001.addr.emqxcl.muster.",
            "0 1 1883 20010db8000000000000000000000003.addr.emqxcl.muster.",
        ]
    );
    assert_eq!(srv.additionals.len(), 4);
    assert!(srv.authoritative);
    assert!(srv.answers.iter().all(|record| record.ttl == 7));
    let target = "20010db8000000000000000000000003.addr.emqxcl.muster";
    assert_eq!(data(&ask(target, RecordType::AAAA, &table)), ["2001:db8::3"]);
    assert_eq!(data(&ask("muster", RecordType::NS, &table)), ["ns.emqxcl.muster."]);
    assert_eq!(data(&ask("ns.emqxcl.muster", RecordType::A, &table)), ["10.0.0.1"]);
    let soa = "ns.emqxcl.muster. hostmaster.muster. 3 60 60 86400 7";
    assert_eq!(data(&ask("muster", RecordType::SOA, &table)), [soa]);
}

#[test]
fn names_that_exist_are_told_from_those_that_do_not() {
    let table = table(3);
    let empty = [
        ("muster", RecordType::A),
        ("emqxcl.muster", RecordType::A),
        ("node.emqxcl.muster", RecordType::A),
        ("service.emqxcl.muster", RecordType::SRV),
        ("mqtt.service.emqxcl.muster", RecordType::SRV),
        ("mqtt.service.emqxcl.muster", RecordType::TXT),
        ("emqx0.node.emqxcl.muster", RecordType::AAAA),
        ("10-0-0-1.addr.emqxcl.muster", RecordType::AAAA),
    ];
    for (name, wanted) in empty {
        let message = ask(name, wanted, &table);
        assert_eq!(message.response_code, ResponseCode::NoError, "{name}");
        assert!(message.answers.is_empty() && message.authoritative, "{name}");
        assert_eq!(message.authorities[0].record_type(), RecordType::SOA, "{name}");
    }
    for name in ["x.muster", "emqx9.node.emqxcl.muster", "10-9-9-9.addr.emqxcl.muster"] {
        let message = ask(name, RecordType::A, &table);
        assert_eq!(message.response_code, ResponseCode::NXDomain, "{name}");
        assert_eq!(message.authorities[0].record_type(), RecordType::SOA, "{name}");
    }
    // Of nobody who serves, the service exists all the same.
    let mut nobody = table.clone();
    nobody.brokers.clear();
    let message = ask("mqtt.service.emqxcl.muster", RecordType::A, &nobody);
    assert_eq!(message.response_code, ResponseCode::NoError);
}

#[test]
fn what_is_not_ours_is_refused() {
    let mut able = table(1);
    let code = |query: &Message, table: &Table| {
        let answer = get(query, table);
        (answer.message.response_code, answer.outcome)
    };
    let refused = (ResponseCode::Refused, "refused");
    assert_eq!(code(&question("example.org", RecordType::A), &able), refused);
    assert_eq!(code(&question(".", RecordType::NS), &able), refused);
    assert_eq!(code(&question("muster", RecordType::AXFR), &able), refused);
    let mut chaos = question("version.bind", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&chaos, &able), refused);
    let mut two = question("muster", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two, &able), (ResponseCode::FormErr, "formerr"));
    let mut update = question("muster", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update, &able), (ResponseCode::NotImp, "notimp"));
    let mut newer = with_edns(question("muster", RecordType::SOA), 1232);
    newer.edns.as_mut().unwrap().set_version(1);
    let bytes = get(&newer, &able).encode(512).unwrap();
    // The same number as BADSIG, which it is read as.
    assert_eq!(u16::from(Message::from_vec(&bytes).unwrap().response_code), 16);
    // Forming and left are the same here.
    let mut view = snapshot(vec![member("emqx@10.0.0.1")]);
    view.state = ClusterState::Forming;
    able = Table::new(&zone(), &view, &Hosts::new(), 1);
    let servfail = (ResponseCode::ServFail, "servfail");
    assert_eq!(code(&question("nodes.emqxcl.muster", RecordType::A), &able), servfail);
    assert_eq!(code(&question("example.org", RecordType::A), &able), refused);
}

#[test]
fn answers_and_scraps_get_no_answer() {
    let mut rng = StdRng::seed_from_u64(1);
    let table = table(1);
    let mut response = question("muster", RecordType::SOA);
    response.metadata.message_type = MessageType::Response;
    for bytes in [response.to_vec().unwrap(), vec![0; 11], Vec::new()] {
        assert!(answer(&bytes, &zone(), &table, &mut rng).is_none());
    }
    let whole = question("muster", RecordType::SOA).to_vec().unwrap();
    for end in 12..whole.len() {
        let answer = answer(&whole[..end], &zone(), &table, &mut rng).unwrap();
        assert_eq!((answer.outcome, answer.message.id), ("formerr", 0x1234));
    }
    let long = [whole, vec![0; MAX_QUERY]].concat();
    assert_eq!(answer(&long, &zone(), &table, &mut rng).unwrap().outcome, "formerr");
}

#[test]
fn any_is_answered_with_little() {
    let table = table(500);
    for name in ["nodes.emqxcl.muster", "muster", "_mqtt._tcp.service.emqxcl.muster"] {
        let bytes = get(&question(name, RecordType::ANY), &table).encode(512).unwrap();
        assert!(bytes.len() < 120, "{name}: {}", bytes.len());
        assert_eq!(Message::from_vec(&bytes).unwrap().answers[0].record_type(), RecordType::HINFO);
    }
}

#[test]
fn what_does_not_fit_is_cut_and_marked() {
    let table = table(200);
    let name = "nodes.emqxcl.muster";
    let plain = get(&question(name, RecordType::A), &table);
    let sizes = [
        (plain, 512, false),
        (get(&with_edns(question(name, RecordType::A), 100), &table), 512, true),
        (get(&with_edns(question(name, RecordType::A), 900), &table), 900, true),
        (get(&with_edns(question(name, RecordType::A), 65_535), &table), 1232, true),
    ];
    for (answer, size, edns) in sizes {
        assert_eq!(usize::from(answer.udp), size);
        let bytes = answer.encode(answer.udp).unwrap();
        // As many as fit, to a byte: another would take 16.
        assert!(bytes.len() <= size && bytes.len() + 16 > size, "{} of {size}", bytes.len());
        let message = Message::from_vec(&bytes).unwrap();
        assert!(message.truncation && message.edns.is_some() == edns);
        let whole = answer.encode(u16::MAX).unwrap();
        let whole = Message::from_vec(&whole).unwrap();
        assert!(!whole.truncation && whole.answers.len() == 100);
        // Too many asked: the question alone, to be asked again over TCP.
        let cut = answer.cut().encode(512).unwrap();
        let cut = Message::from_vec(&cut).unwrap();
        assert!(cut.truncation && cut.answers.is_empty() && cut.queries.len() == 1);
    }
}

/// At every size: nothing longer is sent, and nothing that would fit is left out.
#[test]
fn an_answer_is_cut_at_the_byte() {
    let long = "a-rather-long-name-of-a-cluster-that-takes-its-place";
    let zone = Zone::new(long, "muster", Duration::from_secs(7), [10, 0, 0, 1].into()).unwrap();
    let view = snapshot((0..200).map(|n| member(&format!("e{n}@10.0.0.{n}"))).collect());
    let table = Table::new(&zone, &view, &Hosts::new(), 3);
    let name = format!("nodes.{long}.muster");
    for payload in 512..=700 {
        let query = with_edns(question(&name, RecordType::A), payload).to_vec().unwrap();
        let answer = answer(&query, &zone, &table, &mut StdRng::seed_from_u64(1)).unwrap();
        let bytes = answer.encode(answer.udp).unwrap();
        let size = usize::from(payload);
        assert!(bytes.len() <= size && bytes.len() + 16 > size, "{} of {size}", bytes.len());
        let message = Message::from_vec(&bytes).unwrap();
        // The head, the question as it came, the OPT record.
        assert_eq!(bytes.len(), query.len() + 16 * message.answers.len());
    }
}

/// Resolvers that guard themselves by random letter case compare it, in question and answer.
#[test]
fn the_letter_case_of_a_question_is_kept() {
    let table = table(4);
    for name in ["nOdEs.EmQxCl.MuStEr", "_mQtT._TcP.sErViCe.emqxcl.MUSTER", "MusTer"] {
        for wanted in [RecordType::A, RecordType::SRV, RecordType::SOA] {
            let message = ask(name, wanted, &table);
            let asked = format!("{name}.");
            assert_eq!(message.queries[0].name.to_ascii(), asked);
            for record in &message.answers {
                assert_eq!(record.name.to_ascii(), asked);
            }
        }
    }
}

#[test]
fn addresses_of_targets_are_left_out_before_targets_are() {
    let table = table(8);
    let query = question("_mqtt._tcp.service.emqxcl.muster", RecordType::SRV);
    let bytes = get(&query, &table).encode(1232).unwrap();
    let whole = Message::from_vec(&bytes).unwrap();
    assert_eq!((whole.answers.len(), whole.additionals.len()), (8, 8));
    let bytes = get(&query, &table).encode(u16::try_from(bytes.len()).unwrap() - 1).unwrap();
    let less = Message::from_vec(&bytes).unwrap();
    assert_eq!((less.answers.len(), less.additionals.len()), (8, 7));
    assert!(!less.truncation);
}

#[test]
fn the_order_is_random_and_repeatable() {
    let table = table(20);
    let bytes = question("nodes.emqxcl.muster", RecordType::A).to_vec().unwrap();
    let order = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let answer = answer(&bytes, &zone(), &table, &mut rng).unwrap();
        answer.message.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(order(1), order(1));
    let first: BTreeSet<_> = (0..200).map(|seed| order(seed)[0].clone()).collect();
    assert_eq!(first.len(), 10, "everybody comes first at times");
}
