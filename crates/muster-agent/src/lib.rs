//! The agent that runs on each device.
