//! Packets from and to a connection, bounded in size and time.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::Packet;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How long a packet may take to be written; whoever does not read for longer is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);

/// Bytes read at once.
const READ_BYTES: usize = 4 * 1024;

/// A connection as packets.
pub(super) struct Wire<S> {
    stream: S,
    buffer: BytesMut,
}

/// Why no packet came or went.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The other side closed the connection.
    #[error("the line was closed")]
    Closed,
    /// The bytes are no packet. The codec quotes numbers alone.
    #[error("what came is no packet of MQTT 3.1.1")]
    Form(#[source] Error),
    /// The line broke.
    #[error("the line broke")]
    Line(#[source] std::io::Error),
    /// It took too long.
    #[error("nothing came in time")]
    Silent,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(READ_BYTES) }
    }

    /// The next packet of at most `bytes_max`, whole within `wait`. Loses nothing when dropped.
    pub(super) async fn next(
        &mut self,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Packet, Broken> {
        let reading = async {
            loop {
                match Packet::read(&mut self.buffer, bytes_max) {
                    Ok(packet) => return Ok(packet),
                    Err(Error::InsufficientBytes(_)) => {}
                    Err(error) => return Err(Broken::Form(error)),
                }
                self.buffer.reserve(READ_BYTES);
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) => return Err(Broken::Closed),
                    Ok(_) => {}
                    Err(error) => return Err(Broken::Line(error)),
                }
            }
        };
        tokio::time::timeout(wait, reading).await.unwrap_or(Err(Broken::Silent))
    }

    /// Sends a packet whole.
    pub(super) async fn send(&mut self, packet: &Packet) -> Result<(), Broken> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).map_err(Broken::Form)?;
        let writing = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(WRITE_MAX, writing).await {
            Ok(written) => written.map_err(Broken::Line),
            Err(_) => Err(Broken::Silent),
        }
    }

    /// Says goodbye to the other side as TLS does.
    pub(super) async fn close(mut self) {
        let _cut = tokio::time::timeout(WRITE_MAX, self.stream.shutdown()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::mqttbytes::QoS;
    use rumqttc::mqttbytes::v4::Publish;

    const WAIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn packets_come_as_they_were_sent_and_a_long_one_is_refused_before_it_is_read() {
        let (here, there) = tokio::io::duplex(64);
        let (mut here, mut there) = (Wire::new(here), Wire::new(there));
        let small = Packet::Publish(Publish::new("a", QoS::AtMostOnce, vec![7; 300]));
        let sending = async {
            here.send(&small).await.unwrap();
            here.send(&Packet::PingReq).await.unwrap();
        };
        let reading = async {
            let first = there.next(1_000, WAIT).await.unwrap();
            (first, there.next(1_000, WAIT).await.unwrap())
        };
        let ((), (first, second)) = tokio::join!(sending, reading);
        assert_eq!((first, second), (small, Packet::PingReq));
        // The head alone says that it is too long.
        let (mut raw, there) = tokio::io::duplex(64);
        raw.write_all(&[0x30, 0xff, 0xff, 0x7f]).await.unwrap();
        let refused = Wire::new(there).next(1_000, WAIT).await;
        assert!(matches!(refused, Err(Broken::Form(Error::PayloadSizeLimitExceeded(_)))));
    }

    #[tokio::test]
    async fn whoever_dribbles_is_cut() {
        let (mut raw, there) = tokio::io::duplex(64);
        raw.write_all(&[0x30]).await.unwrap();
        let cut = Wire::new(there).next(1_000, Duration::from_millis(20)).await;
        assert!(matches!(cut, Err(Broken::Silent)));
    }
}
