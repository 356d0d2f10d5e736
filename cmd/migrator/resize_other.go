//go:build !unix

package main

import "os"

// notifyResize does nothing here: the next second's picture has the new size.
func notifyResize(chan os.Signal) {}
