package torture

import "syscall"

// setParentDeathSignal: a child that is stopped by a signal does not notice that its standard
// input has closed.
func setParentDeathSignal(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
