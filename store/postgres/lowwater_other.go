//go:build !linux

package postgres

import "net"

func coarsely(conn net.Conn) net.Conn { return conn }

func beCoarse(net.Conn, bool) {}
