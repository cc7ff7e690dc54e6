//! What goes over the socket between two processes: a table of contents, and the descriptors in its order.
//!
//! The table is JSON with a length before it; descriptors go in messages of their own, because the system limits how
//! many one message carries.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tidegate_config::{ListenerId, server::AdminAddress};

use super::Legacy;
use crate::net::Sockets;

/// Descriptors in one message: Linux takes 253.
const PER_MESSAGE: usize = 128;
/// Largest table of contents: far more listeners than anybody has.
const MAX_TABLE: u32 = 1 << 20;
/// Most sockets of a listener: more than any machine has cores.
const MAX_SOCKETS: usize = 4096;

/// What a process says when it serves.
pub(super) const READY: &[u8] = b"ready\n";

#[derive(Debug, Serialize, Deserialize)]
struct Table {
    listeners: Vec<Entry>,
    admin: Option<Place>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: ListenerId,
    configured: SocketAddr,
    sockets: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Tcp(SocketAddr),
    Unix(std::path::PathBuf),
}

/// Sends everything.
pub(super) fn send(stream: &mut UnixStream, legacy: &Legacy) -> io::Result<()> {
    let entry = |(id, (configured, sockets)): (&ListenerId, &(SocketAddr, Vec<TcpListener>))| Entry {
        id: id.clone(),
        configured: *configured,
        sockets: sockets.len(),
    };
    let admin = legacy.admin.as_ref().map(|(address, _)| match address {
        AdminAddress::Tcp(address) => Place::Tcp(*address),
        AdminAddress::Unix(path) => Place::Unix(path.clone()),
    });
    let table = serde_json::to_vec(&Table { listeners: legacy.sockets.0.iter().map(entry).collect(), admin })?;
    let length = u32::try_from(table.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&table)?;
    let sockets = legacy.sockets.0.values().flat_map(|(_, sockets)| sockets).map(|socket| socket.as_fd());
    let admin = legacy.admin.iter().map(|(_, socket)| socket.as_fd());
    let all: Vec<BorrowedFd<'_>> = sockets.chain(admin).chain([legacy.lock.as_fd()]).collect();
    all.chunks(PER_MESSAGE).try_for_each(|some| send_descriptors(stream, some))
}

fn send_descriptors(stream: &UnixStream, some: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(some)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(stream, &[IoSlice::new(b"d")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Receives everything.
pub(super) fn receive(stream: &mut UnixStream) -> io::Result<Legacy> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_TABLE {
        return Err(io::Error::other("the table of contents is too long"));
    }
    let mut table = vec![0; length as usize];
    stream.read_exact(&mut table)?;
    let table: Table = serde_json::from_slice(&table)?;
    if table.listeners.iter().any(|entry| entry.sockets > MAX_SOCKETS) {
        return Err(io::Error::other("a listener has too many sockets"));
    }
    let sockets: usize = table.listeners.iter().map(|entry| entry.sockets).sum();
    let expected = sockets + usize::from(table.admin.is_some()) + 1;
    let mut descriptors = Vec::with_capacity(expected);
    while descriptors.len() < expected {
        receive_descriptors(stream, &mut descriptors)?;
    }
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let mut listeners = std::collections::BTreeMap::new();
    for entry in table.listeners {
        let sockets = (0..entry.sockets).map(|_| next().map(TcpListener::from)).collect::<io::Result<_>>()?;
        listeners.insert(entry.id, (entry.configured, sockets));
    }
    let admin = table.admin.map(|place| {
        let address = match place {
            Place::Tcp(address) => AdminAddress::Tcp(address),
            Place::Unix(path) => AdminAddress::Unix(path),
        };
        next().map(|socket| (address, socket))
    });
    let admin = admin.transpose()?;
    let lock = next()?.into();
    Ok(Legacy { sockets: Sockets(listeners), admin, lock })
}

fn receive_descriptors(stream: &UnixStream, into: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let before = into.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            into.extend(descriptors);
        }
    }
    if into.len() == before { Err(io::Error::other("a message without descriptors")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn everything_arrives_however_many_sockets_there_are() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let id = ListenerId::parse("public").unwrap();
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let mut lock = tempfile::tempfile().unwrap();
        writeln!(lock, "1").unwrap();
        // More than fit into one message.
        let first = TcpListener::bind(address).unwrap();
        let sockets: Vec<_> = (0..PER_MESSAGE + 5).map(|_| first.try_clone().unwrap()).collect();
        let admin = TcpListener::bind(address).unwrap();
        let admin_address = admin.local_addr().unwrap();
        let legacy = Legacy {
            sockets: Sockets([(id.clone(), (address, sockets))].into()),
            admin: Some((AdminAddress::Tcp(address), admin.into())),
            lock,
        };
        let sender = std::thread::spawn(move || send(&mut one, &legacy).unwrap());
        let mut got = receive(&mut other).unwrap();
        sender.join().unwrap();
        let (configured, sockets) = got.sockets.0.remove(&id).unwrap();
        assert_eq!((configured, sockets.len()), (address, PER_MESSAGE + 5));
        assert!(sockets.iter().all(|s| s.local_addr().unwrap() == first.local_addr().unwrap()));
        let (_, admin) = got.admin.unwrap();
        assert_eq!(TcpListener::from(admin).local_addr().unwrap(), admin_address);
    }

    #[test]
    fn a_sender_that_dies_in_the_middle_is_an_error() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let table = br#"{"listeners":[],"admin":null}"#;
        one.write_all(&(table.len() as u32).to_be_bytes()).unwrap();
        one.write_all(table).unwrap();
        drop(one);
        assert!(receive(&mut other).is_err());
    }
}
