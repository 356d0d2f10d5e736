package main

import (
	"context"
	"net"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/server"
)

// checkListenAddress refuses an address that is not on loopback, unless listen_anywhere
// is set.
func (c *cli) checkListenAddress(address string) error {
	if c.settings.ListenAnywhere {
		return nil
	}
	if err := server.CheckLoopback(address); err != nil {
		return codedError{err, exitUsage}
	}
	return nil
}

// listen opens an address that checkListenAddress accepted. The address that its host
// name resolves to must be on loopback too.
func (c *cli) listen(ctx context.Context, command, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, hint.With(err, try("migrator %s --listen 127.0.0.1:0", command))
	}
	if bound, ok := listener.Addr().(*net.TCPAddr); !c.settings.ListenAnywhere && (!ok || !bound.IP.IsLoopback()) {
		_ = listener.Close()
		return nil, usageTry(try("--listen %s", defaultListen), "%s is %s, which is not on loopback", address, listener.Addr())
	}
	return listener, nil
}
