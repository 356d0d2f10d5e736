package main

import (
	"context"
	"fmt"
	"net"

	"github.com/stranglerfig/migrator/internal/server"
)

// mayListen refuses an address that is not on loopback, but for listen_anywhere.
func (c *cli) mayListen(address string) error {
	if c.settings.ListenAnywhere {
		return nil
	}
	if err := server.CheckLoopback(address); err != nil {
		return coded{err, exitUsage}
	}
	return nil
}

// listen opens an address that mayListen has let pass. What its name stands for must
// be on loopback too.
func (c *cli) listen(ctx context.Context, command, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w; try: migrator %s --listen 127.0.0.1:0", err, command)
	}
	if bound, ok := listener.Addr().(*net.TCPAddr); !c.settings.ListenAnywhere && (!ok || !bound.IP.IsLoopback()) {
		_ = listener.Close()
		return nil, usagef("%s is %s, which is not on loopback; try: --listen %s", address, listener.Addr(), defaultListen)
	}
	return listener, nil
}
