//go:build unix && !linux

package torture

import "syscall"

func dieWithUs(*syscall.SysProcAttr) {}
