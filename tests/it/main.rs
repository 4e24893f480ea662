//! The program against real processes and real servers.

mod support;
