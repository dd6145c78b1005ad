//! Pure: what a packet of an agent means, and what it may say. Its client id and its topics are bound
//! to the name in its certificate; everything else ends the session with a reason.

use std::time::Duration;

use phusa_protocol::ids::AgentId;
use phusa_protocol::report::{Alive, Channel, LIFE_BYTES_MAX, Life, REPORT_BYTES_MAX, Report};
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck,
};
use rumqttc::mqttbytes::{Protocol, QoS};

/// The largest packet before it is known who speaks MQTT here: client id, will, and room.
const CONNECT_BYTES_MAX: usize = 4 * 1024;

/// The largest packet of a session: a report with its topic.
const PACKET_BYTES_MAX: usize = REPORT_BYTES_MAX + 1_024;

/// Time for the first packet.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The longest silence a client may choose; also that of one that chose none.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(120);

/// Topics in one subscription.
const FILTERS_MAX: usize = 8;

/// A session as the rules see it.
#[derive(Debug)]
pub struct Rules {
    agent: AgentId,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Opening,
    Open { keep_alive: Duration, will: Option<Life> },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Send this.
    Send(Packet),
    /// Store this report.
    Report(Box<Report>),
    /// Store what became of a session.
    Life(Life),
    /// The agent listens to commands now.
    Listens,
    /// End in peace; there is no will.
    Bye,
    /// End for this reason.
    Refuse(&'static str),
}

impl Rules {
    /// A session of this agent before its first packet.
    #[must_use]
    pub fn new(agent: AgentId) -> Self {
        Self { agent, phase: Phase::Opening }
    }

    /// How large the next packet may be, and how long it may take to come.
    #[must_use]
    pub fn bounds(&self) -> (usize, Duration) {
        match &self.phase {
            Phase::Opening => (CONNECT_BYTES_MAX, CONNECT_WITHIN),
            // One and a half times, as the standard says.
            Phase::Open { keep_alive, .. } => (PACKET_BYTES_MAX, *keep_alive * 3 / 2),
        }
    }

    /// What became of the session when its line broke: its will, if it had one.
    #[must_use]
    pub fn will(&self) -> Option<Life> {
        match &self.phase {
            Phase::Opening => None,
            Phase::Open { will, .. } => *will,
        }
    }

    /// What this packet means.
    pub fn take(&mut self, packet: Packet) -> Vec<Act> {
        match (&self.phase, packet) {
            (Phase::Opening, Packet::Connect(connect)) => self.connect(&connect),
            (Phase::Opening, _) => refuse("the first packet is not CONNECT"),
            (Phase::Open { .. }, Packet::Publish(publish)) => self.publish(&publish),
            (Phase::Open { .. }, Packet::Subscribe(subscribe)) => self.subscribe(&subscribe),
            (Phase::Open { .. }, Packet::Unsubscribe(unsubscribe)) => {
                vec![Act::Send(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)))]
            }
            (Phase::Open { .. }, Packet::PingReq) => vec![Act::Send(Packet::PingResp)],
            (Phase::Open { .. }, Packet::Disconnect) => vec![Act::Bye],
            (Phase::Open { .. }, Packet::PubAck(_)) => Vec::new(),
            (
                Phase::Open { .. },
                Packet::Connect(_)
                | Packet::ConnAck(_)
                | Packet::PubRec(_)
                | Packet::PubRel(_)
                | Packet::PubComp(_)
                | Packet::SubAck(_)
                | Packet::UnsubAck(_)
                | Packet::PingResp,
            ) => refuse("a packet that an agent has no reason to send"),
        }
    }

    fn connect(&mut self, connect: &Connect) -> Vec<Act> {
        let refused = |code, why| {
            let answer = Packet::ConnAck(ConnAck::new(code, false));
            vec![Act::Send(answer), Act::Refuse(why)]
        };
        if connect.protocol != Protocol::V4 {
            let code = ConnectReturnCode::RefusedProtocolVersion;
            return refused(code, "only MQTT 3.1.1 is spoken here");
        }
        if connect.client_id != self.agent.to_string() {
            let why = "the client id is not the agent's name in its certificate";
            return refused(ConnectReturnCode::BadClientId, why);
        }
        let will = match &connect.last_will {
            None => None,
            Some(will) if will.topic != Channel::Life.topic(&self.agent) => {
                let why = "the last will is for another topic than the agent's own";
                return refused(ConnectReturnCode::NotAuthorized, why);
            }
            Some(will) => match Life::read(&will.message) {
                Some(life) if life.state == Alive::Lost => Some(life),
                Some(_) | None => {
                    let why = "the last will does not say that a session was lost";
                    return refused(ConnectReturnCode::NotAuthorized, why);
                }
            },
        };
        let keep_alive = match connect.keep_alive {
            0 => KEEP_ALIVE_MAX,
            seconds => Duration::from_secs(seconds.into()).min(KEEP_ALIVE_MAX),
        };
        self.phase = Phase::Open { keep_alive, will };
        vec![Act::Send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false)))]
    }

    fn publish(&self, publish: &Publish) -> Vec<Act> {
        let done = match meaning(&self.agent, &publish.topic, &publish.payload) {
            Ok(act) => act,
            Err(why) => return refuse(why),
        };
        match publish.qos {
            QoS::AtMostOnce => vec![done],
            // Acknowledged when it is stored.
            QoS::AtLeastOnce => vec![done, Act::Send(Packet::PubAck(PubAck::new(publish.pkid)))],
            QoS::ExactlyOnce => refuse("quality of service 2 is not spoken here"),
        }
    }

    fn subscribe(&self, subscribe: &Subscribe) -> Vec<Act> {
        if subscribe.filters.len() > FILTERS_MAX {
            return refuse("it subscribed to too many topics at once");
        }
        let own = Channel::Command.topic(&self.agent);
        let granted = |path: &str| match path == own {
            true => SubscribeReasonCode::Success(QoS::AtLeastOnce),
            false => SubscribeReasonCode::Failure,
        };
        let codes: Vec<_> = subscribe.filters.iter().map(|one| granted(&one.path)).collect();
        let listens = subscribe.filters.iter().any(|one| one.path == own);
        let answer = Act::Send(Packet::SubAck(SubAck::new(subscribe.pkid, codes)));
        std::iter::once(answer).chain(listens.then_some(Act::Listens)).collect()
    }
}

/// What an agent says on a topic: a report or what became of a session.
///
/// # Errors
/// What it may not say, in words without anything of it.
pub fn meaning(agent: &AgentId, topic: &str, payload: &[u8]) -> Result<Act, &'static str> {
    if topic == Channel::Report.topic(agent) {
        let report = Report::read(payload, agent);
        return report.map(|report| Act::Report(Box::new(report))).map_err(|bad| bad.because());
    }
    if topic == Channel::Life.topic(agent) {
        let within = payload.len() <= LIFE_BYTES_MAX;
        let life = within.then(|| Life::read(payload)).flatten();
        return life.map(Act::Life).ok_or("what it says of its life is not of the known form");
    }
    Err("it published to a topic that is not its own")
}

fn refuse(why: &'static str) -> Vec<Act> {
    vec![Act::Refuse(why)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use phusa_protocol::report::Birth;
    use phusa_protocol::time::Timestamp;
    use rumqttc::mqttbytes::v4::{LastWill, SubscribeFilter};

    fn agent() -> AgentId {
        AgentId::try_from("H57.12/may-1".to_owned()).unwrap()
    }

    fn life(state: Alive) -> Life {
        Life { birth: Birth(Timestamp::UNIX_EPOCH), state }
    }

    fn connect() -> Connect {
        Connect::new("H57.12/may-1")
    }

    fn open() -> Rules {
        let mut rules = Rules::new(agent());
        let acts = rules.take(Packet::Connect(connect()));
        assert_eq!(acts, [accepted()]);
        rules
    }

    fn accepted() -> Act {
        Act::Send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false)))
    }

    fn why(acts: &[Act]) -> &str {
        match acts.last() {
            Some(Act::Refuse(why)) => why,
            _ => "",
        }
    }

    #[test]
    fn a_session_is_opened_by_its_own_agent_alone() {
        type Change = fn(&mut Connect);
        let cases: [(Change, ConnectReturnCode, &str); 6] = [
            (|_| (), ConnectReturnCode::Success, ""),
            (
                |c| c.client_id = "H57.13/may-1".to_owned(),
                ConnectReturnCode::BadClientId,
                "client id",
            ),
            (|c| c.protocol = Protocol::V5, ConnectReturnCode::RefusedProtocolVersion, "3.1.1"),
            (
                |c| {
                    c.last_will = Some(LastWill::new(
                        "phusa/H57.13/may-1/life",
                        life(Alive::Lost).to_bytes(),
                        QoS::AtLeastOnce,
                        false,
                    ));
                },
                ConnectReturnCode::NotAuthorized,
                "another topic",
            ),
            (
                |c| {
                    c.last_will = Some(LastWill::new(
                        "phusa/H57.12/may-1/life",
                        "offline",
                        QoS::AtLeastOnce,
                        false,
                    ));
                },
                ConnectReturnCode::NotAuthorized,
                "does not say",
            ),
            (
                |c| {
                    c.last_will = Some(LastWill::new(
                        "phusa/H57.12/may-1/life",
                        life(Alive::Born).to_bytes(),
                        QoS::AtLeastOnce,
                        false,
                    ));
                },
                ConnectReturnCode::NotAuthorized,
                "does not say",
            ),
        ];
        for (change, code, reason) in cases {
            let mut connect = connect();
            change(&mut connect);
            let acts = Rules::new(agent()).take(Packet::Connect(connect));
            assert_eq!(acts[0], Act::Send(Packet::ConnAck(ConnAck::new(code, false))));
            assert!(why(&acts).contains(reason) && why(&acts).is_empty() == reason.is_empty());
        }
        assert!(why(&Rules::new(agent()).take(Packet::PingReq)).contains("not CONNECT"));
    }

    #[test]
    fn a_will_stands_until_the_session_ends_in_peace() {
        let mut rules = Rules::new(agent());
        let topic = Channel::Life.topic(&agent());
        let mut connect = connect();
        connect.last_will =
            Some(LastWill::new(topic, life(Alive::Lost).to_bytes(), QoS::AtLeastOnce, false));
        assert_eq!(rules.take(Packet::Connect(connect)), [accepted()]);
        assert_eq!(rules.will(), Some(life(Alive::Lost)));
        assert_eq!(rules.take(Packet::Disconnect), [Act::Bye]);
    }

    #[test]
    fn an_agent_publishes_to_its_own_topics_and_is_answered_when_it_is_stored() {
        let publish = |topic: &str, qos, payload: Vec<u8>| {
            let mut publish = Publish::new(topic, qos, payload);
            publish.pkid = 7;
            open().take(Packet::Publish(publish))
        };
        let lives = life(Alive::Born);
        let own = "phusa/H57.12/may-1/life";
        let acts = publish(own, QoS::AtLeastOnce, lives.to_bytes());
        assert_eq!(acts, [Act::Life(lives), Act::Send(Packet::PubAck(PubAck::new(7)))]);
        assert_eq!(publish(own, QoS::AtMostOnce, lives.to_bytes()), [Act::Life(lives)]);
        assert!(why(&publish(own, QoS::ExactlyOnce, lives.to_bytes())).contains("service 2"));
        let other = "phusa/H57.13/may-1/life";
        assert!(why(&publish(other, QoS::AtLeastOnce, lives.to_bytes())).contains("not its own"));
        let report = "phusa/H57.12/may-1/report";
        assert!(why(&publish(report, QoS::AtLeastOnce, b"{}".to_vec())).contains("form"));
        assert!(why(&open().take(Packet::Connect(connect()))).contains("no reason"));
    }

    #[test]
    fn an_agent_hears_its_own_commands_alone() {
        let filter = |path: &str| SubscribeFilter::new(path.to_owned(), QoS::AtLeastOnce);
        let own = "phusa/H57.12/may-1/command";
        let mut asked =
            Subscribe::new_many([filter("#"), filter(own), filter("phusa/+/+/command")]);
        asked.pkid = 3;
        let codes = vec![
            SubscribeReasonCode::Failure,
            SubscribeReasonCode::Success(QoS::AtLeastOnce),
            SubscribeReasonCode::Failure,
        ];
        let expected = [Act::Send(Packet::SubAck(SubAck::new(3, codes))), Act::Listens];
        assert_eq!(open().take(Packet::Subscribe(asked)), expected);
        let many = Subscribe::new_many((0..9).map(|_| filter(own)));
        assert!(why(&open().take(Packet::Subscribe(many))).contains("too many"));
    }

    #[test]
    fn a_silent_session_is_bounded_whatever_it_asks_for() {
        for (asked, expected) in [(30, 45), (0, 180), (u16::MAX, 180)] {
            let mut rules = Rules::new(agent());
            let _accepted = rules.take(Packet::Connect(Connect { keep_alive: asked, ..connect() }));
            assert_eq!(rules.bounds().1, Duration::from_secs(expected));
        }
    }
}
