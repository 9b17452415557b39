"""Networks: backbones, and the lifelong network over one."""
