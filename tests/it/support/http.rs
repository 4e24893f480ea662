//! A blocking HTTP client, small enough to be obviously right.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// No route of an agent takes longer, a refused join's own time-out included.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One request over a connection of its own. `headers` replace the default `Host`
/// when they name one.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    exchange(stream, &address.to_string(), method, path, headers, body)
}

/// [`request`] over a Unix socket.
pub fn request_unix(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    exchange(stream, "localhost", method, path, &[], body)
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> io::Result<Answer> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        text.push_str("Content-Type: application/json\r\n");
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes())?;
    read_answer(&mut BufReader::new(stream))
}

/// A stream of server-sent events. Reading one blocks for [`TIMEOUT`] at most.
pub struct Events(BufReader<Box<dyn Read + Send>>);

/// One server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    pub id: Option<u64>,
    pub event: String,
    pub data: String,
}

impl Events {
    /// Subscribes; `last_event_id` resumes after that event.
    pub fn open(address: SocketAddr, path: &str, last_event_id: Option<u64>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Self::subscribe(stream, &address.to_string(), path, last_event_id)
    }

    /// [`Events::open`] over a Unix socket.
    pub fn open_unix(socket: &Path, path: &str, last_event_id: Option<u64>) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Self::subscribe(stream, "localhost", path, last_event_id)
    }

    fn subscribe(
        mut stream: impl Read + Write + Send + 'static,
        host: &str,
        path: &str,
        last_event_id: Option<u64>,
    ) -> io::Result<Self> {
        let resume = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{resume}\r\n");
        stream.write_all(request.as_bytes())?;
        let stream: Box<dyn Read + Send> = Box::new(stream);
        let mut reader = BufReader::new(stream);
        let (status, _) = read_head(&mut reader)?;
        if status != 200 {
            return Err(io::Error::other(format!("events answered {status}")));
        }
        Ok(Self(reader))
    }

    /// The next event; comments and chunk sizes are skipped.
    pub fn next(&mut self) -> io::Result<SseEvent> {
        let mut event = SseEvent { id: None, event: "message".to_owned(), data: String::new() };
        let mut any = false;
        loop {
            let line = read_line(&mut self.0)?;
            let Some((field, value)) = line.split_once(':') else {
                // The blank line that ends an event has no field either; a chunk's
                // size and the line end behind a chunk are not ours to read.
                if line.is_empty() && any {
                    return Ok(event);
                }
                continue;
            };
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => event.id = value.parse().ok(),
                "event" => event.event = value.to_owned(),
                "data" => {
                    event.data.push_str(value);
                    // An id without data only sets where a reader resumes.
                    any = true;
                }
                _ => {}
            }
        }
    }
}

fn read_answer(reader: &mut impl BufRead) -> io::Result<Answer> {
    let (status, headers) = read_head(reader)?;
    let chunked = headers.iter().any(|(k, v)| k == "transfer-encoding" && v.contains("chunked"));
    let length: Option<u64> =
        headers.iter().find(|(k, _)| k == "content-length").and_then(|(_, v)| v.parse().ok());
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = read_line(reader)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            reader.take(size).read_to_end(&mut body)?;
            read_line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        reader.take(length).read_to_end(&mut body)?;
    } else if status != 204 {
        reader.read_to_end(&mut body)?;
    }
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(Answer { status, headers, body })
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = read_line(reader)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| io::Error::other(format!("not an HTTP answer: {first:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

/// A line without its end. The end of the stream is an error.
fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    Ok(line)
}
