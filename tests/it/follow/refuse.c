/* Has the system refuse what is asked of sockets bound to the port REFUSED_PORT, for as long
   as the file REFUSED_WHILE is there. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int refused(int fd)
{
    const char *port = getenv("REFUSED_PORT"), *file = getenv("REFUSED_WHILE");
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    if (!port || !file || access(file, F_OK) != 0)
        return 0;
    if (getsockname(fd, (struct sockaddr *)&at, &size) != 0 || at.sin_family != AF_INET)
        return 0;
    return ntohs(at.sin_port) == atoi(port);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, struct msghdr *, int);
    if (!real)
        real = dlsym(RTLD_NEXT, "recvmsg");
    if (refused(fd)) {
        errno = ENOBUFS;
        return -1;
    }
    return real(fd, message, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *within)
{
    static int (*real)(int, struct mmsghdr *, unsigned, int, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "recvmmsg");
    if (refused(fd)) {
        errno = ENOBUFS;
        return -1;
    }
    return real(fd, messages, count, flags, within);
}

int accept4(int fd, struct sockaddr *from, socklen_t *size, int flags)
{
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    if (!real)
        real = dlsym(RTLD_NEXT, "accept4");
    if (refused(fd)) {
        errno = ENOBUFS;
        return -1;
    }
    return real(fd, from, size, flags);
}
