//go:build !linux

package postgres

import "net"

func withLowWater(conn net.Conn) net.Conn { return conn }

func setReadLowWater(net.Conn, bool) {}
