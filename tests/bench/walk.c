/* The limit: one netlink pass over all TCP sockets, counting only. */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    struct { struct nlmsghdr head; struct inet_diag_req body; } request;
    static char buffer[1 << 17];
    long rows = 0;
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
    memset(&request, 0, sizeof request);
    request.head.nlmsg_len = sizeof request;
    request.head.nlmsg_type = TCPDIAG_GETSOCK;
    request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.body.idiag_states = 0x1ffe;
    if (fd < 0 || send(fd, &request, sizeof request, 0) < 0) return 1;
    for (;;) {
        ssize_t size = recv(fd, buffer, sizeof buffer, 0);
        if (size <= 0) return 1;
        for (struct nlmsghdr *one = (void *)buffer; NLMSG_OK(one, size); one = NLMSG_NEXT(one, size)) {
            if (one->nlmsg_type == NLMSG_DONE) { printf("%ld\n", rows); return 0; }
            if (one->nlmsg_type == NLMSG_ERROR) return 1;
            rows++;
        }
    }
}
